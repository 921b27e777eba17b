//! Why a call is refused before anything is spent. One closed enum, in order of precedence.

/// Why a call was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallRejection {
    // Where to.
    #[error("there is no upstream {0:?}")]
    UnknownUpstream(String),
    #[error("the path could be read in more than one way")]
    AmbiguousPath,
    #[error("{method} {path} is not metered, so it is refused")]
    RouteNotMetered { method: String, path: String },
    #[error("the query parameter {0:?} is not known on this route")]
    QueryNotKnown(String),

    // Headers.
    #[error("the header {name} with the value {value:?} may change what the call costs")]
    Header { name: &'static str, value: String },
    #[error("the body is encoded as {0:?}: send it as it is")]
    Encoded(String),

    // Body.
    #[error("the field {field} of {route} is not known here, so what it costs is not known")]
    FieldUnknown { route: &'static str, field: String },
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
    #[error("the tool {tool:?} runs at the provider at a price that is not known here")]
    ServerTool { tool: String },

    // Manifest.
    #[error("{0} is forwarded as it is, so the agent's manifest could not be held to there")]
    RouteNotGated(String),
    #[error("the agent's manifest does not list the model {0:?}")]
    ModelNotInManifest(String),
    #[error("the agent's manifest does not list the tool {0:?}")]
    ToolNotInManifest(String),
    #[error("the agent's manifest blacklists the tool {0:?}")]
    ToolBlacklisted(String),
    #[error("the agent has no manifest, so no tool of it is authorized")]
    NoManifest,
    #[error("the tool {tool:?} was called {requests} times within {per_seconds} s, which is its limit")]
    ToolRate {
        tool: String,
        requests: u32,
        per_seconds: u32,
        retry_after_s: u64,
    },

    // Bound.
    #[error("the context window of {0} is not known, and the request brings content from elsewhere")]
    ContextUnknown(String),
    #[error("the call could use more than can be priced")]
    Absurd,
}

impl CallRejection {
    /// The stable code that clients may match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownUpstream(_) => "unknown_upstream",
            Self::AmbiguousPath => "ambiguous_path",
            Self::RouteNotMetered { .. } => "route_not_metered",
            Self::QueryNotKnown(_) => "query_not_known",
            Self::Header { .. } => "header_not_metered",
            Self::Encoded(_) => "content_encoding",
            Self::FieldUnknown { .. } => "field_not_metered",
            Self::Field { .. } => "invalid_field",
            Self::ServerTool { .. } => "server_tool_not_priced",
            Self::RouteNotGated(_) => "route_not_gated",
            Self::ModelNotInManifest(_) => "model_not_in_manifest",
            Self::ToolNotInManifest(_) => "tool_not_in_manifest",
            Self::ToolBlacklisted(_) => "tool_blacklisted",
            Self::NoManifest => "no_manifest",
            Self::ToolRate { .. } => "tool_rate_limited",
            Self::ContextUnknown(_) => "context_unknown",
            Self::Absurd => "absurd_amount",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownUpstream(name) => format!("add an [[upstream]] with name = {name:?}"),
            Self::RouteNotMetered { path, .. } => {
                format!(
                    "give it a ceiling in its [[upstream]]: ceilings = {{ {path:?} = \"0.10\" }}, in dollars a call"
                )
            }
            Self::Header { name, value } => {
                format!("leave {name} out, or declare it to bear no cost: [gateway] free_betas = [{value:?}]")
            }
            Self::FieldUnknown { route, field } => {
                format!("if it bears no cost, admit it: [gateway] free_fields = [\"{route}:{field}\"]")
            }
            Self::ServerTool { tool } => {
                format!("say what all its uses in one call may cost: [gateway.server_tools] {tool} = \"0.50\"")
            }
            Self::RouteNotGated(_) => {
                "if agents with a manifest may use it all the same, say so in its [[upstream]]: ceilings_ungated = true"
                    .to_owned()
            }
            Self::ModelNotInManifest(model) => format!("add {model:?} to the manifest's models"),
            Self::ToolNotInManifest(tool) => format!("add {tool:?} to the manifest's allowed_tools"),
            Self::ToolBlacklisted(_) => "it is named in the manifest's blacklisted_tools".to_owned(),
            Self::NoManifest => "name one in the agent's config: manifest = \"FILE\"".to_owned(),
            Self::ToolRate { retry_after_s, .. } => format!("try again in {retry_after_s} s"),
            Self::ContextUnknown(_) => "import a price that states its context window".to_owned(),
            Self::AmbiguousPath | Self::QueryNotKnown(_) | Self::Encoded(_) | Self::Field { .. } | Self::Absurd => {
                return None;
            }
        })
    }
}
