//! How the fixture answers: what it says was used, what it bills, and what goes wrong.

use serde_json::Value;

/// How much a call that is answered uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Much {
    Exactly(u64),
    /// As much as the request allows: its limit on the output, its bytes in the prompt.
    AllThatIsAllowed,
}

/// What becomes of one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// None: for the place of a request among others.
    Answers,
    /// An error in the API's own shape. Whether it is billed all the same is the provider's secret.
    Status { status: u16, bills: bool },
    /// An error with this text as its message.
    Says(u16, String),
    /// The connection ends before the head of an answer.
    DropBeforeHead { bills: bool },
    /// It ends when so many pieces of the body were sent.
    DropAfter(usize),
    /// Nothing comes, head and all, until the test opens the gate.
    WaitBeforeHead,
    /// The head and so many pieces come, then nothing until the test opens the gate.
    WaitAfter(usize),
    /// Success and JSON, it says; it is neither a completion nor JSON.
    Garbage,
    /// A page for people, with status 200.
    Page,
    /// A whole answer that does not say what it used.
    NoUsage,
    /// A whole answer that says it used nothing, and bills nothing.
    ZeroUsage,
    /// A body of at least so many bytes.
    Huge(usize),
    /// The answer to something else: another API's object.
    OtherObject,
}

impl Fault {
    /// Whether the call is on the bill.
    pub fn bills(&self) -> bool {
        match self {
            Self::Status { bills, .. } | Self::DropBeforeHead { bills } => *bills,
            Self::Says(..) | Self::ZeroUsage => false,
            _ => true,
        }
    }
}

/// The usual way of answering.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Tokens of the prompt, of which some may be cached.
    pub prompt: Much,
    pub cached: u64,
    /// Anthropic's writes to the cache, for five minutes and for an hour; they are beside the prompt.
    pub written: (u64, u64),
    /// Tokens for each output.
    pub output: Much,
    /// Of which so many were reasoned.
    pub reasoned: u64,
    /// Pieces of text in a stream.
    pub pieces: usize,
    /// A tool that the model calls, with its arguments.
    pub tool: Option<(String, Value)>,
    /// The tier that OpenAI's answers say they were served in.
    pub tier: &'static str,
    /// What tells an answer from any other; one of its own unless it is given.
    pub id: Option<String>,
    /// The text of a transcript.
    pub transcript: String,
    /// The duration that the provider finds in any audio, in thousandths of a second.
    pub millis: u64,
}

impl Manner {
    /// The id of an answer, as its API begins it.
    pub fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.id.as_deref().unwrap_or_default())
    }
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            prompt: Much::Exactly(3),
            cached: 0,
            written: (0, 0),
            output: Much::Exactly(30),
            reasoned: 0,
            pieces: 4,
            tool: None,
            tier: "default",
            id: None,
            transcript: "what was said".to_owned(),
            millis: 2_000,
        }
    }
}
