//! The routes that are known, and how each is metered.

use super::rejection::CallRejection;
use crate::domain::id::ServiceId;

/// Whose forms a provider speaks: paths, errors, usage. Many speak OpenAI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Openai,
    Anthropic,
}

impl Api {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// What a route costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metering {
    /// Its cost is bounded before and metered after.
    Metered,
    /// The provider whose API it is does not charge for it, says its documentation.
    Free,
}

/// A route of a provider that is understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    ChatCompletions,
    Completions,
    Responses,
    Embeddings,
    Transcriptions,
    Translations,
    Speech,
    ImageGenerations,
    ImageEdits,
    ImageVariations,
    Moderations,
    OpenaiModels,
    Messages,
    CountTokens,
    AnthropicModels,
}

/// Method, path below the upstream, route. A path that ends in `*` takes one more segment.
const ROUTES: &[(Api, &str, &str, Route)] = &[
    (Api::Openai, "POST", "/v1/chat/completions", Route::ChatCompletions),
    (Api::Openai, "POST", "/v1/completions", Route::Completions),
    (Api::Openai, "POST", "/v1/responses", Route::Responses),
    (Api::Openai, "POST", "/v1/embeddings", Route::Embeddings),
    (Api::Openai, "POST", "/v1/audio/transcriptions", Route::Transcriptions),
    (Api::Openai, "POST", "/v1/audio/translations", Route::Translations),
    (Api::Openai, "POST", "/v1/audio/speech", Route::Speech),
    (Api::Openai, "POST", "/v1/images/generations", Route::ImageGenerations),
    (Api::Openai, "POST", "/v1/images/edits", Route::ImageEdits),
    (Api::Openai, "POST", "/v1/images/variations", Route::ImageVariations),
    (Api::Openai, "POST", "/v1/moderations", Route::Moderations),
    (Api::Openai, "GET", "/v1/models", Route::OpenaiModels),
    (Api::Openai, "GET", "/v1/models/*", Route::OpenaiModels),
    (Api::Anthropic, "POST", "/v1/messages", Route::Messages),
    (Api::Anthropic, "POST", "/v1/messages/count_tokens", Route::CountTokens),
    (Api::Anthropic, "GET", "/v1/models", Route::AnthropicModels),
    (Api::Anthropic, "GET", "/v1/models/*", Route::AnthropicModels),
];

/// Whether a path is of this pattern, which may end in `*` for one more segment.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => path
            .strip_prefix(stem)
            .is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => path == pattern,
    }
}

/// Longest path that is looked at.
const MAX_PATH: usize = 1024;

impl Route {
    /// The route that a provider would see, if it is one that we know. The path starts with `/`, is
    /// below the upstream's base and has no query.
    pub fn find(api: Api, method: &str, path: &str) -> Result<Self, CallRejection> {
        if !is_plain(path) {
            return Err(CallRejection::AmbiguousPath);
        }
        let of_api = ROUTES.iter().filter(|row| row.0 == api);
        of_api
            .filter(|row| row.1 == method && path_matches(row.2, path))
            .map(|row| row.3)
            .next()
            .ok_or_else(|| CallRejection::RouteNotMetered {
                method: method.chars().take(16).collect(),
                path: path.chars().take(128).collect(),
            })
    }

    /// Another API than this that meters a path of this pattern. A provider that speaks both would take such a
    /// call, and nobody would meter it.
    pub fn metered_by_another(api: Api, pattern: &str) -> Option<Api> {
        let mut others = ROUTES.iter().filter(|row| row.0 != api);
        others
            .find(|row| row.3.metering() == Metering::Metered && path_matches(pattern, row.2))
            .map(|row| row.0)
    }

    pub const fn metering(self) -> Metering {
        match self {
            Self::Moderations | Self::OpenaiModels | Self::CountTokens | Self::AnthropicModels => Metering::Free,
            _ => Metering::Metered,
        }
    }

    /// Whether this service is known to charge for it as [`metering`](Self::metering) says. OpenAI moderates for
    /// nothing; others that speak its API charge for the tokens, and do not say how many they were.
    pub fn is_known_at(self, service: &ServiceId) -> bool {
        self != Self::Moderations || service.as_str() == Api::Openai.name()
    }

    pub const fn api(self) -> Api {
        match self {
            Self::Messages | Self::CountTokens | Self::AnthropicModels => Api::Anthropic,
            _ => Api::Openai,
        }
    }

    /// Whether its body is a form with files instead of JSON.
    pub const fn takes_form(self) -> bool {
        matches!(
            self,
            Self::Transcriptions | Self::Translations | Self::ImageEdits | Self::ImageVariations
        )
    }

    /// Whether config can name a route so.
    pub fn is_name(text: &str) -> bool {
        ROUTES.iter().any(|row| row.3.name() == text)
    }

    /// As config names it, in `free_fields = ["chat/completions:field"]`, and metrics label it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Transcriptions => "audio/transcriptions",
            Self::Translations => "audio/translations",
            Self::Speech => "audio/speech",
            Self::ImageGenerations => "images/generations",
            Self::ImageEdits => "images/edits",
            Self::ImageVariations => "images/variations",
            Self::Moderations => "moderations",
            Self::OpenaiModels | Self::AnthropicModels => "models",
            Self::Messages => "messages",
            Self::CountTokens => "messages/count_tokens",
        }
    }
}

/// First parts of paths that are Backstop's own, now or by its design.
const OWN: [&str; 8] = ["v1", "api", "mcp", "sns", "healthz", "readyz", "metrics", "dashboard"];

/// Whether an upstream can have this name: it is the first part of its calls' paths.
pub fn is_upstream_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) && !OWN.contains(&text)
}

/// Whether every server reads this path alike: no escapes, no empty or dotted segments, no parameters.
pub fn is_plain(path: &str) -> bool {
    path.len() <= MAX_PATH
        && path.starts_with('/')
        && path
            .split('/')
            .skip(1)
            .all(|segment| !segment.is_empty() && segment != "." && segment != "..")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.:@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_routes_are_known() {
        assert_eq!(
            Route::find(Api::Openai, "POST", "/v1/chat/completions"),
            Ok(Route::ChatCompletions)
        );
        assert_eq!(
            Route::find(Api::Openai, "GET", "/v1/models/gpt-5.4"),
            Ok(Route::OpenaiModels)
        );
        assert_eq!(Route::find(Api::Anthropic, "POST", "/v1/messages"), Ok(Route::Messages));
        for (api, method, path) in [
            (Api::Anthropic, "POST", "/v1/chat/completions"),
            (Api::Openai, "GET", "/v1/chat/completions"),
            (Api::Openai, "POST", "/v1/batches"),
            (Api::Openai, "POST", "/v1/realtime/sessions"),
            (Api::Anthropic, "POST", "/v1/messages/batches"),
            (Api::Openai, "GET", "/v1/models/a/b"),
            (Api::Openai, "GET", "/v1/models/"),
        ] {
            assert!(Route::find(api, method, path).is_err(), "{method} {path}");
        }
    }

    #[test]
    fn what_another_api_meters_is_known() {
        let anthropic = Some(Api::Anthropic);
        for (api, pattern, expected) in [
            (Api::Openai, "/v1/messages", anthropic),
            (Api::Openai, "/v1/*", anthropic),
            (Api::Anthropic, "/v1/chat/*", Some(Api::Openai)),
            (Api::Anthropic, "/v1/embeddings", Some(Api::Openai)),
            (Api::Anthropic, "/v1/messages", None),
            (Api::Openai, "/v1/batches", None),
            (Api::Openai, "/v1/messages/count_tokens", None),
            (Api::Anthropic, "/v1/messages/batches/*", None),
        ] {
            assert_eq!(Route::metered_by_another(api, pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn only_openai_moderates_for_nothing() {
        let service = |name| ServiceId::new(name).expect("a service");
        assert!(Route::Moderations.is_known_at(&service("openai")));
        assert!(!Route::Moderations.is_known_at(&service("mistral")));
        assert!(Route::ChatCompletions.is_known_at(&service("mistral")));
        assert!(Route::OpenaiModels.is_known_at(&service("mistral")));
    }

    #[test]
    fn a_path_that_two_servers_could_read_differently_is_ambiguous() {
        for path in [
            "/v1//chat/completions",
            "/v1/./chat/completions",
            "/v1/x/../chat/completions",
            "/v1/chat%2fcompletions",
            "/v1/chat/completions/",
            "/v1/chat/completions;a=b",
            "v1/chat/completions",
            "/v1/chat\\completions",
        ] {
            assert_eq!(
                Route::find(Api::Openai, "POST", path),
                Err(CallRejection::AmbiguousPath),
                "{path}"
            );
        }
    }

    #[test]
    fn a_star_stands_for_one_segment_and_no_less() {
        for path in ["/v1/files/f-1", "/v1/files/a.b"] {
            assert!(path_matches("/v1/files/*", path), "{path}");
        }
        for path in ["/v1/files", "/v1/files/", "/v1/files/f-1/content", "/v1/filesystem"] {
            assert!(!path_matches("/v1/files/*", path), "{path}");
        }
        assert!(path_matches("/v1/batches", "/v1/batches"));
        assert!(!path_matches("/v1/batches", "/v1/batches/b-1"));
    }
}
