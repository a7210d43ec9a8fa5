//! Addresses and prefixes.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::error::Flaw;
use super::list::{Item, split_at_byte};
use super::number;

/// An address of a socket, as the bits of an IPv6 address. An IPv4 address is
/// the IPv6 address that maps it, see RFC 4291, section 2.5.5.2: the two are
/// the same to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u128);

/// How many bits of an IPv4-mapped IPv6 address come before the IPv4 address.
const MAPPED: u8 = 96;

impl Address {
    #[inline(always)]
    pub fn from_ipv4(bits: u32) -> Self {
        Self(0xffff << 32 | u128::from(bits))
    }

    #[inline(always)]
    pub fn from_ipv6(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits of an IPv6 address.
    pub fn to_ipv6(self) -> u128 {
        self.0
    }

    /// The bits of an IPv4 address, if it is one.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub fn to_ipv4(self) -> Option<u32> {
        (self.0 >> 32 == 0xffff).then_some(self.0 as u32)
    }
}

/// A prefix of addresses: `10.0.0.0/8`, or one address, which is a prefix of
/// full length. Bits below the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    network: Address,
    /// In bits of an IPv6 address; 96 more than an IPv4 prefix is written with.
    length: u8,
}

impl Prefix {
    /// Every IPv6 address.
    pub const EMPTY: Self = Self {
        network: Address(0),
        length: 0,
    };

    /// Whether `address` lies in this prefix. A prefix that is shorter than
    /// `::ffff:0:0/96` holds no IPv4 address: `::/0` is any IPv6 address.
    #[inline(always)]
    pub fn contains(self, address: Address) -> bool {
        let differing = address.0 ^ self.network.0;
        let within = differing.checked_shr(128 - u32::from(self.length));
        within.unwrap_or(0) == 0 && (self.length >= MAPPED || address.to_ipv4().is_none())
    }
}

impl Item for Prefix {
    fn parse(item: &[u8]) -> Result<Self, Flaw> {
        let (address, length) = match split_at_byte(item, b'/') {
            Some((address, length)) => (address, Some(length)),
            None => (item, None),
        };
        let (address, base) = match parse_ipv4(address) {
            Some(address) => (Address::from_ipv4(address), MAPPED),
            None => (parse_ipv6(address).ok_or(Flaw::NotAnAddress)?, 0),
        };
        let longest = 128 - base;
        let length = match length {
            Some(length) => number::parse(length, longest.into())
                .and_then(|length| u8::try_from(length).ok())
                .ok_or(Flaw::NotAPrefixLength)?,
            None => longest,
        } + base;
        let below = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        Ok(Self {
            network: Address(address.0 & !below),
            length,
        })
    }
}

/// An IPv4 address as inet_pton(3) reads it: four decimal numbers. The standard
/// library's parsers have a path that panics, which the shim may not have.
fn parse_ipv4(text: &[u8]) -> Option<u32> {
    let mut bytes = text.split(|&byte| byte == b'.');
    let mut address = 0;
    for _ in 0..4 {
        address = address << 8 | number::parse(bytes.next()?, 255)?;
    }
    bytes.next().is_none().then_some(address)
}

/// An IPv6 address in the forms of RFC 4291, section 2.2: groups of up to four
/// hexadecimal digits, at most one gap, the last two groups perhaps as an IPv4
/// address.
fn parse_ipv6(text: &[u8]) -> Option<Address> {
    // What stands before the gap, once that has been seen.
    let mut before: Option<Groups> = None;
    let mut groups = Groups::default();
    let mut rest = text;
    if let Some(after) = text.strip_prefix(b"::") {
        before = Some(groups);
        rest = after;
    }
    // Only a gap may end an address.
    let mut may_end = before.is_some();
    while !(rest.is_empty() && may_end) {
        let (group, after) = split_at_byte(rest, b':').unwrap_or((rest, b""));
        may_end = group.len() == rest.len();
        rest = after;
        match parse_group(group) {
            Some(group) => groups.push(group, 1)?,
            None if may_end => groups.push(parse_ipv4(group)?, 2)?,
            None => return None,
        }
        if let Some(after) = rest.strip_prefix(b":") {
            if before.is_some() {
                return None;
            }
            before = Some(groups);
            groups = Groups::default();
            rest = after;
            may_end = true;
        }
    }
    match before {
        None => (groups.count == 8).then_some(Address(groups.bits)),
        Some(before) if before.count + groups.count < 8 => {
            let high = before.bits.checked_shl(128 - 16 * before.count);
            Some(Address(high.unwrap_or(0) | groups.bits))
        }
        Some(_) => None,
    }
}

/// Groups of 16 bits of an IPv6 address, the last one lowest.
#[derive(Clone, Copy, Default)]
struct Groups {
    bits: u128,
    count: u32,
}

impl Groups {
    /// Appends `bits`, which are `count` groups; at most 8 fit.
    fn push(&mut self, bits: u32, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bits <<= 16;
        }
        self.bits |= u128::from(bits);
        self.count += count;
        (self.count <= 8).then_some(())
    }
}

/// One to four hexadecimal digits.
fn parse_group(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 4 {
        return None;
    }
    text.iter().try_fold(0, |group, &byte| {
        Some(group << 4 | char::from(byte).to_digit(16)?)
    })
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, longest) = match self.network.to_ipv4() {
            Some(address) if self.length >= MAPPED => {
                write!(f, "{}", Ipv4Addr::from_bits(address))?;
                (self.length - MAPPED, 32)
            }
            _ => {
                write!(f, "{}", Ipv6Addr::from_bits(self.network.0))?;
                (self.length, 128)
            }
        };
        if length == longest {
            return Ok(());
        }
        write!(f, "/{length}")
    }
}
