//! How many connections a copy has accepted: the counters that its shim shares with
//! us, see `shim/accepts.rs`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// More processes that listen, each for itself, than a copy has.
const MOST: usize = 64;

/// The counters of a copy: a page for each of its processes that has listened.
#[derive(Debug, Default)]
pub(super) struct Pages(Vec<(u32, Arc<File>)>);

/// The counter of a listener.
#[derive(Debug)]
pub(super) struct Counter {
    page: Arc<File>,
    offset: u64,
}

impl Pages {
    pub(super) fn add(&mut self, pid: u32, page: OwnedFd) {
        // A number is another process's after a while; and who listens no longer needs
        // none.
        self.0.retain(|(owner, _)| *owner != pid);
        if self.0.len() >= MOST {
            self.0.retain(|(_, page)| Arc::strong_count(page) > 1);
        }
        if self.0.len() < MOST {
            self.0.push((pid, Arc::new(page.into())));
        }
    }

    /// The counter of the listener that is the descriptor `number` in the process
    /// `pid`, where it is known on which page that process counts: its own, or that
    /// of whoever has forked it.
    pub(super) fn counter(&self, pid: u32, number: i32) -> Option<Counter> {
        let page = match &self.0[..] {
            [(_, page)] => page,
            all => &all.iter().find(|(owner, _)| *owner == pid)?.1,
        };
        Some(Counter {
            page: Arc::clone(page),
            offset: u64::try_from(number).ok()? * 8,
        })
    }
}

impl Counter {
    /// How many connections were accepted; `None` where it has no counter: the
    /// page has an end, and is a file that the copy may shorten.
    pub(super) fn read(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, self.offset).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn page(counts: &[u64]) -> OwnedFd {
        let mut file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = counts
            .iter()
            .flat_map(|count| count.to_ne_bytes())
            .collect();
        file.write_all(&bytes).expect("written");
        file.into()
    }

    #[test]
    fn a_counter_is_found_by_process_and_descriptor() {
        let mut pages = Pages::default();
        assert!(pages.counter(1, 0).is_none());
        pages.add(1, page(&[5, 6]));
        let read = |pages: &Pages, pid, number| pages.counter(pid, number)?.read();
        // Of one page alone, a child that was forked counts on it too.
        assert_eq!(read(&pages, 2, 1), Some(6));
        pages.add(2, page(&[7]));
        assert_eq!(read(&pages, 1, 1), Some(6));
        assert_eq!(read(&pages, 2, 0), Some(7));
        assert_eq!(read(&pages, 3, 0), None);
        // Past the end, and no descriptor.
        assert_eq!(read(&pages, 2, 1), None);
        assert_eq!(read(&pages, 2, -1), None);
    }
}
