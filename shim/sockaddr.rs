//! From the bytes that a program hands to bind(2) to an address: the one place
//! that reads the program's memory.
#![allow(unsafe_code, reason = "reads the caller's sockaddr")]

use core::ffi::c_void;
use core::mem::{offset_of, size_of};

use crate::reason::Reason;
use crate::rules::{Address, Endpoint};

/// `sa_family` values, see address_families(7).
const AF_UNSPEC: u16 = 0;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The kernel reads nothing below the first page, and programs that pass a
/// small number for a pointer get EFAULT from it: they shall with us.
const FIRST_PAGE: usize = 4096;

/// `struct sockaddr_in`, see ip(7).
#[repr(C)]
#[derive(Clone, Copy)]
struct SockaddrIn {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

/// `struct sockaddr_in6` up to its address, see ipv6(7). The kernel takes one
/// without the scope id that follows.
#[repr(C)]
#[derive(Clone, Copy)]
struct SockaddrIn6 {
    family: u16,
    port: [u8; 2],
    flow: [u8; 4],
    address: [u8; 16],
}

/// An IPv4 or IPv6 address that a program passed to bind(2), where it lies.
#[derive(Clone, Copy)]
pub struct Sockaddr {
    address: *const c_void,
    is_ipv6: bool,
}

impl Sockaddr {
    /// Looks at the family and length of an address.
    ///
    /// # Errors
    /// The reason why it is none that the shim acts on.
    ///
    /// # Safety
    /// `address` is null, or `length` bytes from it can be read for as long as
    /// the result is used. No alignment is asked.
    #[inline(always)]
    pub unsafe fn new(address: *const c_void, length: u32) -> Result<Self, Reason> {
        const IN: u32 = size_of::<SockaddrIn>() as u32;
        const IN6: u32 = size_of::<SockaddrIn6>() as u32;

        if address.addr() < FIRST_PAGE {
            return Err(Reason::NoAddress);
        }
        if length < IN {
            // SAFETY: passed on to the caller.
            return Err(unsafe { Self::why_short(address, length) });
        }
        // SAFETY: as many bytes can be read, by the caller and the test above.
        let family = unsafe { address.cast::<u16>().read_unaligned() };
        let is_ipv6 = family == AF_INET6;
        if !is_ipv6 && family != AF_INET && family != AF_UNSPEC {
            return Err(Reason::NotInet);
        }
        if is_ipv6 && length < IN6 {
            return Err(Reason::ShortAddress);
        }
        let this = Self { address, is_ipv6 };
        // The kernel takes the wildcard address without a family for an IPv4
        // one, on an IPv4 socket.
        if family == AF_UNSPEC && this.address() != Address::from_ipv4(0) {
            return Err(Reason::NotInet);
        }
        Ok(this)
    }

    /// The reason not to act on an address that is too short for IPv4.
    ///
    /// # Safety
    /// `length` bytes from `address` can be read.
    #[cold]
    unsafe fn why_short(address: *const c_void, length: u32) -> Reason {
        if length < size_of::<u16>() as u32 {
            return Reason::ShortAddress;
        }
        // SAFETY: by the caller and the test above.
        match unsafe { address.cast::<u16>().read_unaligned() } {
            AF_INET | AF_INET6 => Reason::ShortAddress,
            _ => Reason::NotInet,
        }
    }

    #[inline(always)]
    pub fn endpoint(self) -> Endpoint {
        Endpoint {
            address: self.address(),
            port: self.port(),
        }
    }

    #[inline(always)]
    pub fn port(self) -> u16 {
        const { assert!(offset_of!(SockaddrIn, port) == offset_of!(SockaddrIn6, port)) };
        // SAFETY: `new` saw that there are as many bytes, of either family.
        let inet = unsafe { self.address.cast::<SockaddrIn>().read_unaligned() };
        u16::from_be_bytes(inet.port)
    }

    #[inline(always)]
    pub fn address(self) -> Address {
        // SAFETY: `new` saw that there are as many bytes of this family.
        unsafe {
            if self.is_ipv6 {
                let inet6 = self.address.cast::<SockaddrIn6>().read_unaligned();
                Address::from_ipv6(u128::from_be_bytes(inet6.address))
            } else {
                let inet = self.address.cast::<SockaddrIn>().read_unaligned();
                Address::from_ipv4(u32::from_be_bytes(inet.address))
            }
        }
    }
}

// What the kernel's headers say of the layout.
const _: () = assert!(size_of::<SockaddrIn>() == 16);
const _: () = assert!(size_of::<SockaddrIn6>() == 24);
const _: () = assert!(offset_of!(SockaddrIn6, address) == 8);
