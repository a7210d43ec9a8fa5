//! How a file, or a mapping in a process, is recognised as this shim: an ELF
//! note, see elf(5), of the name `reuseport` and type 1, whose description is
//! the version of the package.
#![allow(unsafe_code, reason = "a link section")]

const NAME: [u8; 10] = *b"reuseport\0";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name and the description are each padded to four bytes.
#[repr(C)]
struct Note {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; NAME.len().next_multiple_of(4)],
    description: [u8; VERSION.len().next_multiple_of(4)],
}

#[used]
#[cfg_attr(not(test), unsafe(link_section = ".note.reuseport"))]
static NOTE: Note = Note {
    name_size: NAME.len() as u32,
    description_size: VERSION.len() as u32,
    kind: 1,
    name: padded(&NAME),
    description: padded(VERSION.as_bytes()),
};

const fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    let mut index = 0;
    while index < text.len() {
        padded[index] = text[index];
        index += 1;
    }
    padded
}
