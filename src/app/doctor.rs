//! `backstop doctor` without a daemon: the same examination, with the credentials of whoever asks.

use std::sync::Arc;
use std::time::Duration;

use super::settings;
use crate::cli::{ExamineOptions, Examining};
use crate::cloud::aws::{Aws, AwsSettings};
use crate::cloud::disabled::DisabledCloud;
use crate::doctor::{Case, Doctor};
use crate::ports::Cloud;
use crate::system::SystemClock;

/// Examines the cloud from here. It opens no ledger: that is the daemon's.
pub fn examine(options: ExamineOptions) -> Examining {
    Box::pin(async move {
        let ExamineOptions { settings, about, tell } = options;
        let cloud: Arc<dyn Cloud> = if settings.aws.enabled {
            // Nobody's spending waits for this: what is only slow is no failure.
            let patient = AwsSettings {
                attempt_timeout: Duration::from_secs(10),
                operation_timeout: Duration::from_secs(20),
                ..settings::aws(&settings)
            };
            Arc::new(Aws::connect(patient).await)
        } else {
            Arc::new(DisabledCloud)
        };
        let case = Case {
            about,
            ..settings::case(&settings, None)
        };
        Doctor::new(cloud, Arc::new(SystemClock)).examine(&case, &*tell).await
    })
}
