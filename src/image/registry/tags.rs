//! The tags of a repository (distribution specification, "Listing Tags").

use serde_json::Value;
use ureq::http::{Method, StatusCode, header};

use super::answer::read_bounded;
use super::client::Repository;
use super::error::{Error, Fault};
use super::location::{next_page, same_origin};

/// More tags than a person reads are not listed.
const MAX_TAGS: usize = 100;
/// Nor are more answers waited for.
const MAX_PAGES: usize = 10;
const MAX_ANSWER: u64 = 4 << 20;
const ACTION: &str = "a request for the tags";

impl Repository {
    /// The first hundred tags, and whether there are more; none where there is no
    /// such repository.
    ///
    /// # Errors
    /// The registry does not give them.
    pub fn tags(&self) -> Result<Option<(Vec<String>, bool)>, Error> {
        self.list_tags().map_err(|fault| self.error("", fault))
    }

    pub(super) fn list_tags(&self) -> Result<Option<(Vec<String>, bool)>, Fault> {
        let path = format!("tags/list?n={}", MAX_TAGS + 1);
        let mut ask = self.ask(ACTION, Method::GET, &path, false)?;
        let mut tags = Vec::new();
        let mut more = false;
        for _ in 0..MAX_PAGES {
            let answer = self.send(&ask)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(answer.into_fault()),
            }
            let link = answer.header(header::LINK);
            let next = link.and_then(|link| next_page(&answer.uri, link));
            let next = next.filter(|next| same_origin(next, &answer.uri));
            let nonsense = |what| Fault::Nonsense {
                action: ACTION,
                what,
            };
            let body = read_bounded(answer.response.into_body(), MAX_ANSWER)
                .map_err(|_| nonsense("it is cut off, or has no end"))?;
            let body: Value =
                serde_json::from_slice(&body).map_err(|_| nonsense("it is no JSON"))?;
            let page = body.get("tags").and_then(Value::as_array);
            let page = page.into_iter().flatten().filter_map(Value::as_str);
            // A name with anything else in it is none, and not for a terminal.
            let page = page.filter(|tag| tag.bytes().all(|byte| byte.is_ascii_graphic()));
            tags.extend(page.map(str::to_owned));
            more = next.is_some();
            match next {
                Some(next) if tags.len() <= MAX_TAGS => {
                    ask = self.ask_at(ACTION, Method::GET, next, false);
                }
                _ => break,
            }
        }
        more |= tags.len() > MAX_TAGS;
        // The specification's order, which not every registry keeps.
        tags.sort_unstable();
        tags.truncate(MAX_TAGS);
        Ok(Some((tags, more)))
    }
}
