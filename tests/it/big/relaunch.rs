//! An agent that goes on launching.
