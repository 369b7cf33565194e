//! Waiting for conditions with a deadline; the alternative to sleeping.

use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at a condition until it gives a value. An error is "not yet", and the
/// last one is the explanation when the limit has passed.
///
/// # Errors
/// When the condition did not hold within `limit`.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut condition: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + limit;
    let mut last = anyhow::anyhow!("it never answered");
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() + INTERVAL >= deadline {
            return Err(last.context(format!("waited {limit:?} for {what}")));
        }
        sleep(INTERVAL).await;
    }
}

/// Looks at a condition again and again for `span`, and fails as soon as it does not hold.
///
/// # Errors
/// When the condition failed once.
pub async fn throughout<F, Fut>(what: &str, span: Duration, mut condition: F) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let end = Instant::now() + span;
    while Instant::now() < end {
        condition()
            .await
            .map_err(|error| error.context(format!("it did not stay so: {what}")))?;
        sleep(INTERVAL).await;
    }
    Ok(())
}
