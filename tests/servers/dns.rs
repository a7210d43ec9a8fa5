//! As much of the DNS as it takes to ask for an address, see RFC 1035.

const RECURSION_DESIRED: [u8; 2] = [1, 0];
/// Type A, class IN.
const ADDRESS: [u8; 4] = [0, 1, 0, 1];

/// A message that asks for the IPv4 address of `name`, which is one label.
pub fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34];
    message.extend(RECURSION_DESIRED);
    message.extend(counts([1, 0, 0, 0]));
    message.push(u8::try_from(name.len()).expect("a label has at most 63 bytes"));
    message.extend(name.bytes());
    message.push(0);
    message.extend(ADDRESS);
    message
}

/// The IPv4 address in an answer that holds nothing else: it ends with it.
pub fn address(message: &[u8]) -> Option<[u8; 4]> {
    let only_answer = message.get(4..12)? == counts([1, 1, 0, 0]);
    only_answer.then(|| message.last_chunk().copied()).flatten()
}

/// The numbers of questions, answers, authorities and additional records.
fn counts(counts: [u16; 4]) -> Vec<u8> {
    counts.into_iter().flat_map(u16::to_be_bytes).collect()
}
