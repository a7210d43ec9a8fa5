//! How often and how long a registry is asked again.

use std::thread;
use std::time::{Duration, SystemTime};

use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode, header};

use super::error::Fault;

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often one request is sent again.
    pub retries: u32,
    /// The first pause; each further one is twice as long.
    pub pause: Duration,
    /// What the pauses of one request may add up to, those included that the
    /// registry asks for.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 4,
            pause: Duration::from_millis(250),
            total: Duration::from_secs(60),
        }
    }
}

/// Does `send` until it gives an answer that lasts, or the patience ends: then
/// what it gave last. `again` says whether the request can still be repeated.
pub(super) fn patiently(
    patience: Patience,
    mut send: impl FnMut() -> Result<Response<Body>, Fault>,
    mut again: impl FnMut() -> bool,
) -> Result<Response<Body>, Fault> {
    let mut retries = Retries::new(patience);
    loop {
        let outcome = send();
        let asked = match &outcome {
            Ok(response) if is_passing(response.status()) => {
                retry_after(response.headers(), SystemTime::now())
            }
            Err(Fault::Unreached { why, .. }) if why.is_passing() => None,
            _ => return outcome,
        };
        if !again() || !retries.pause(asked) {
            return outcome;
        }
    }
}

/// The retries of one request.
#[derive(Debug)]
pub(super) struct Retries {
    patience: Patience,
    done: u32,
    waited: Duration,
}

impl Retries {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            done: 0,
            waited: Duration::ZERO,
        }
    }

    /// Waits before the next try, at least as long as the registry asked for.
    /// False, and at once, where the patience is at its end.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> bool {
        let own = self.patience.pause.saturating_mul(1 << self.done.min(10));
        let pause = asked.unwrap_or(own);
        let waited = self.waited.saturating_add(pause);
        if self.done >= self.patience.retries || waited > self.patience.total {
            return false;
        }
        self.done += 1;
        self.waited = waited;
        thread::sleep(pause);
        true
    }
}

/// Whether the same request may have another answer in a while.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` (RFC 9110, section 10.2.3), at `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that
/// servers may send (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let time: Vec<u64> = words
        .next()?
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let &[hour, minute, second] = time.as_slice() else {
        return None;
    };
    let known = (1970..10_000).contains(&year) && (1..=31).contains(&day);
    if !known || hour > 23 || minute > 59 || second > 60 || words.next() != Some("GMT") {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970: years are counted from March, so that the leap day is last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    before + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().expect("a value"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        retry_after(&headers, now)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(7)));
        let past = "Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(after(past), Some(Duration::ZERO));
        assert_eq!(
            http_date("Thu, 29 Feb 2024 12:00:00 GMT"),
            Some(1_709_208_000)
        );
        for bad in [
            "",
            "-1",
            "soon",
            "Sun, 06 Nov 1994",
            "Sun, 06 Foo 1994 08:49:37 GMT",
        ] {
            assert_eq!(after(bad), None, "{bad}");
        }
    }

    #[test]
    fn patience_ends() {
        let patience = Patience {
            retries: 2,
            pause: Duration::ZERO,
            total: Duration::from_secs(1),
        };
        let mut retries = Retries::new(patience);
        assert!(retries.pause(None) && retries.pause(Some(Duration::ZERO)));
        assert!(!retries.pause(None));
        // What would take longer than that is not waited for at all.
        assert!(!Retries::new(patience).pause(Some(Duration::from_secs(2))));
        assert!(!Retries::new(patience).pause(Some(Duration::MAX)));
    }
}
