//! The instance metadata service: whether the daemon itself runs on an instance, and on which.
//!
//! That instance is never a target (C5). Nobody answering is the ordinary case away from EC2 and is no
//! error; it is waited for a second at most, once, at the start.

use std::time::Duration;

use aws_config::imds::Client;

const PATIENCE: Duration = Duration::from_secs(1);

/// The id of the instance that this process runs on.
pub(super) async fn own_instance() -> Option<String> {
    if is_disabled() {
        return None;
    }
    let client = Client::builder()
        .max_attempts(1)
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .build();
    let answer = tokio::time::timeout(3 * PATIENCE, client.get("/latest/meta-data/instance-id")).await;
    match answer {
        Ok(Ok(id)) => {
            let id = id.as_ref().trim();
            is_instance_id(id).then(|| id.to_owned())
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "no instance metadata: not taken for an EC2 instance");
            None
        }
        Err(_) => None,
    }
}

/// AWS's own switch; the SDK heeds it for credentials and region, but leaves this call to us.
#[expect(
    clippy::disallowed_methods,
    reason = "one of the usual AWS places, which are the environment's"
)]
fn is_disabled() -> bool {
    std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What answers at that address away from EC2 may be anything.
fn is_instance_id(text: &str) -> bool {
    text.len() <= 32
        && text
            .strip_prefix("i-")
            .is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::is_instance_id;

    #[test]
    fn only_an_instance_id_is_one() {
        assert!(is_instance_id("i-0123456789abcdef0"));
        assert!(is_instance_id("i-1a2b3c4d"));
        for other in [
            "",
            "i-",
            "<html>",
            "i-0123 456",
            "i-g",
            "eni-0123",
            &format!("i-{}", "0".repeat(40)),
        ] {
            assert!(!is_instance_id(other), "{other}");
        }
    }
}
