//! Tests of the parts that need no process of their own: the rules' parser and
//! matcher, and the reading of addresses.
#![allow(unsafe_code, reason = "passes raw addresses, as programs do")]

mod handed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::reason::Reason;
use crate::rules::{Address, Flaw, Globs, Interface, Invalid, Rules, Setting, Values, Variable};
use crate::sockaddr::Sockaddr;

fn parse(assignments: &[(Variable, &[u8])]) -> Result<Rules, Invalid> {
    let mut values = Values::default();
    for (variable, value) in assignments {
        values.set_first(*variable, value);
    }
    let mut rules = Rules::EMPTY;
    Globs::of(&values)?;
    rules.fill(&values)?;
    rules.check_interface()?;
    Ok(rules)
}

fn parse_one(variable: Variable, value: &str) -> Result<Rules, Invalid> {
    parse(&[(variable, value.as_bytes())])
}

fn address(text: &str) -> Address {
    match text.parse().expect("an address") {
        IpAddr::V4(address) => Address::from_ipv4(address.to_bits()),
        IpAddr::V6(address) => Address::from_ipv6(address.to_bits()),
    }
}

fn selects_address(list: &str, candidate: &str) -> bool {
    let rules = parse_one(Variable::Addr, list).expect("a valid list");
    rules.selects_address(|| address(candidate))
}

fn many(item: &str, count: usize) -> String {
    vec![item; count].join(",")
}

#[test]
fn values_that_do_not_parse_say_which_item_and_why() {
    use Flaw::*;
    use Variable::*;
    let table: &[(Variable, &str, u8, Flaw)] = &[
        (Addr, ",", 0, EmptyItem),
        (Addr, "127.0.0.1,", 1, EmptyItem),
        (Addr, "127.0.0.1,,::1", 1, EmptyItem),
        (Addr, " ", 0, EmptyItem),
        (Addr, "localhost", 0, NotAnAddress),
        (Addr, "127.0.0", 0, NotAnAddress),
        (Addr, "127.0.0.256", 0, NotAnAddress),
        (Addr, "127.0.0.01", 0, NotAnAddress),
        (Addr, "127.0.0.1.1", 0, NotAnAddress),
        (Addr, "::1, 1::2::3", 1, NotAnAddress),
        (Addr, ":1", 0, NotAnAddress),
        (Addr, "1:", 0, NotAnAddress),
        (Addr, ":::", 0, NotAnAddress),
        (Addr, "1:2:3:4:5:6:7:8:9", 0, NotAnAddress),
        (Addr, "1:2:3:4:5:6:7::8:9", 0, NotAnAddress),
        (Addr, "::12345", 0, NotAnAddress),
        (Addr, "::ffff:1.2.3", 0, NotAnAddress),
        (Addr, "[::1]", 0, NotAnAddress),
        (Addr, "fe80::1%eth0", 0, NotAnAddress),
        (Addr, "/8", 0, NotAnAddress),
        (Addr, "10.0.0.0/33", 0, NotAPrefixLength),
        (Addr, "10.0.0.0/", 0, NotAPrefixLength),
        (Addr, "10.0.0.0/08", 0, NotAPrefixLength),
        (Addr, "10.0.0.0/-1", 0, NotAPrefixLength),
        (Addr, "10.0.0.0/8/8", 0, NotAPrefixLength),
        (Addr, "::/129", 0, NotAPrefixLength),
        (Port, "abc", 0, NotAPort),
        (Port, "80, abc", 1, NotAPort),
        (Port, "65536", 0, NotAPort),
        (Port, "99999999999999999999", 0, NotAPort),
        (Port, "-1", 0, NotAPort),
        (Port, "+80", 0, NotAPort),
        (Port, "080", 0, NotAPort),
        (Port, "80-", 0, NotAPort),
        (Port, "80 - 90", 0, NotAPort),
        (Port, "1-2-3", 0, NotAPort),
        (Port, "90-80", 0, RangeBackwards),
        (Port, "80,", 1, EmptyItem),
        (Op, "0", 0, NotAnOp),
        (Op, "4", 0, NotAnOp),
        (Op, "both", 0, NotAnOp),
        (Op, " 1", 0, NotAnOp),
        (Proto, "sctp", 0, NotAProtocol),
        (Proto, "tcp,TCP", 1, NotAProtocol),
        (Proto, "tcp,", 1, EmptyItem),
        (Interface, "a/b", 0, NotAnInterfaceName),
        (Interface, "a b", 0, NotAnInterfaceName),
        (Interface, "a:b", 0, NotAnInterfaceName),
        (Interface, "..", 0, NotAnInterfaceName),
        (Interface, "sixteen-letters-", 0, NotAnInterfaceName),
        (SoBindtodevice, "a\nb", 0, NotAnInterfaceName),
        (Program, "a,/b", 1, SlashInGlob),
        (Program, "[a", 0, UnclosedBracket),
        (Program, "[]", 0, UnclosedBracket),
        (Program, "[!]", 0, UnclosedBracket),
        (Program, "a,b\\", 1, LoneBackslash),
        (Program, "a,,b", 1, EmptyItem),
        (SoReuseport, "2", 0, NotASetting),
        (SoReuseaddr, "yes", 0, NotASetting),
    ];
    for &(variable, value, item, flaw) in table {
        let expected = Invalid {
            variable,
            flaw,
            item,
        };
        let outcome = parse_one(variable, value).err();
        assert_eq!(outcome, Some(expected), "{}={value}", variable.name());
    }
    for (variable, item, most) in [(Addr, "::1", 64), (Port, "1", 64), (Program, "a", 16)] {
        assert!(parse_one(variable, &many(item, most)).is_ok());
        let flaw = parse_one(variable, &many(item, most + 1))
            .err()
            .map(|invalid| invalid.flaw);
        assert_eq!(flaw, Some(TooMany));
    }
}

#[test]
fn an_empty_value_is_as_if_the_variable_were_not_set() {
    for &variable in Variable::ALL {
        let rules = parse_one(variable, "").expect("valid");
        assert_eq!(
            format!("{rules:?}"),
            format!("{:?}", parse(&[]).expect("defaults"))
        );
    }
}

#[test]
fn the_first_of_two_entries_of_one_name_counts() {
    let rules = parse(&[(Variable::Port, b"80"), (Variable::Port, b"81")]).expect("valid");
    assert!(rules.selects_port(80) && !rules.selects_port(81));
}

#[test]
fn ports_select_what_they_list() {
    let any = parse(&[]).expect("defaults");
    assert!(!any.selects_port(0) && any.selects_port(1) && any.selects_port(65535));
    let rules = parse_one(Variable::Port, " 80 ,443,8000-8099").expect("valid");
    for port in [80, 443, 8000, 8050, 8099] {
        assert!(rules.selects_port(port), "{port}");
    }
    for port in [0, 79, 81, 7999, 8100, 65535] {
        assert!(!rules.selects_port(port), "{port}");
    }
    let zero = parse_one(Variable::Port, "0").expect("valid");
    assert!(zero.selects_port(0) && !zero.selects_port(1));
    let all = parse_one(Variable::Port, "0-65535").expect("valid");
    assert!(all.selects_port(0) && all.selects_port(65535));
}

#[test]
fn addresses_select_what_lies_in_a_listed_prefix() {
    for (list, candidate, selected) in [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
        ("127.0.0.1", "0.0.0.0", false),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.1.2.3/8", "10.9.9.9", true),
        ("0.0.0.0/0", "255.1.2.3", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "::1", true),
        ("::/0", "127.0.0.1", false),
        ("::/0", "::ffff:127.0.0.1", false),
        ("127.0.0.1", "::ffff:127.0.0.1", true),
        ("::ffff:127.0.0.1", "127.0.0.1", true),
        ("::ffff:0:0/96", "8.8.8.8", true),
        ("::ffff:10.0.0.0/104", "10.2.0.1", true),
        ("::ffff:10.0.0.0/104", "11.2.0.1", false),
        ("2001:db8::/32", "2001:db8:1::", true),
        ("2001:db8::/32", "2001:db9::", false),
        ("::1", "::1", true),
        ("::1", "::", false),
        ("fe80::/10,::1", "febf::1", true),
        ("1.1.1.1, ::1 ,10.0.0.0/8", "10.0.0.1", true),
    ] {
        assert_eq!(
            selects_address(list, candidate),
            selected,
            "{list} {candidate}"
        );
    }
}

#[test]
fn settings_come_from_op_or_else_from_the_later_spellings() {
    use Setting::*;
    use Variable::*;
    type Row<'a> = (&'a [(Variable, &'a [u8])], Setting, Setting);
    let table: &[Row] = &[
        (&[], Set, Leave),
        (&[(Op, b"1")], Set, Leave),
        (&[(Op, b"2")], Leave, Set),
        (&[(Op, b"3")], Set, Set),
        (&[(SoReuseport, b"-1")], Leave, Leave),
        (&[(SoReuseport, b"0")], Clear, Leave),
        (&[(SoReuseport, b"1"), (SoReuseaddr, b"1")], Set, Set),
        (&[(SoReuseaddr, b"0")], Set, Clear),
        (
            &[(Op, b"2"), (SoReuseport, b"1"), (SoReuseaddr, b"0")],
            Leave,
            Set,
        ),
        (&[(Op, b"1"), (SoReuseport, b"nonsense")], Set, Leave),
        (&[(Op, b""), (SoReuseport, b"0")], Clear, Leave),
    ];
    for (assignments, reuseport, reuseaddr) in table {
        let rules = parse(assignments).expect("valid");
        assert_eq!((rules.reuseport, rules.reuseaddr), (*reuseport, *reuseaddr));
    }
    let nothing = parse(&[(SoReuseport, b"-1")]).expect("valid");
    assert!(nothing.asks_for_nothing());
}

#[test]
fn protocols_select_what_they_name() {
    const NUMBERS: [i32; 4] = [6, 262, 17, 132];
    for (value, selected) in [
        ("", [true, true, true, true]),
        ("tcp", [true, true, false, false]),
        ("udp", [false, false, true, false]),
        ("tcp , udp", [true, true, true, false]),
    ] {
        let rules = parse_one(Variable::Proto, value).expect("valid");
        assert_eq!(
            NUMBERS.map(|number| rules.protocols.contains(number)),
            selected,
            "{value}"
        );
    }
}

#[test]
fn the_interface_is_named_by_the_variable_or_its_later_spelling() {
    use Variable::{Interface as Ours, SoBindtodevice};
    let name =
        |assignments: &[(Variable, &[u8])]| match parse(assignments).expect("valid").interface {
            Interface::Named(name) => String::from_utf8_lossy(name.as_bytes()).into_owned(),
            other => format!("{other:?}"),
        };
    assert_eq!(name(&[]), "Any");
    assert_eq!(name(&[(Ours, b"eth0")]), "eth0");
    assert_eq!(
        name(&[(SoBindtodevice, b"fifteen-letters")]),
        "fifteen-letters"
    );
    assert_eq!(name(&[(Ours, b"eth0"), (SoBindtodevice, b"a/b")]), "eth0");
}

#[test]
fn globs_match_whole_names_as_glob_7_says() {
    for (globs, name, matching) in [
        ("nginx", "nginx", true),
        ("nginx", "nginx2", false),
        ("nginx", "xnginx", false),
        ("python3*", "python3.11", true),
        ("python3*", "python3", true),
        ("*", "", true),
        ("?", "", false),
        ("?", "a", true),
        ("a*b*c", "aXbXbYc", true),
        ("a*b*c", "aXbXbY", false),
        (
            "*a*a*a*b",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            false,
        ),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[!a-c]x", "dx", true),
        ("[!a-c]x", "ax", false),
        ("[]]", "]", true),
        ("[!]]", "]", false),
        ("[a-]", "-", true),
        ("[-a]", "-", true),
        ("[*]", "*", true),
        ("[*]", "a", false),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("redis-server, nginx", "nginx", true),
        ("redis-server, nginx", "redis", false),
    ] {
        let mut values = Values::default();
        values.set_first(Variable::Program, globs.as_bytes());
        let parsed = Globs::of(&values).expect("valid").expect("set");
        assert_eq!(parsed.matches(name.as_bytes()), matching, "{globs} {name}");
    }
}

/// The bytes of a sockaddr_in or sockaddr_in6 of `family`.
fn sockaddr(family: u16, ip: IpAddr, port: u16, length: usize) -> Vec<u8> {
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    match ip {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
        }
    }
    bytes.resize(length, 0);
    bytes
}

fn read(bytes: &[u8]) -> Result<(Address, u16), Reason> {
    // One byte off, so that the address is misaligned.
    let shifted = [&[0], bytes].concat();
    // SAFETY: as many bytes can be read as are said to be there.
    let read = unsafe { Sockaddr::new(shifted[1..].as_ptr().cast(), bytes.len() as u32) };
    read.map(|sockaddr| (sockaddr.endpoint().address, sockaddr.endpoint().port))
}

#[test]
fn addresses_are_read_as_the_kernel_reads_them() {
    let (unix, unspecified, inet, inet6) = (1, 0, 2, 10);
    let four = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());

    assert_eq!(
        read(&sockaddr(inet, four, 80, 16)),
        Ok((address("127.0.0.1"), 80))
    );
    assert_eq!(
        read(&sockaddr(inet, four, 80, 128)),
        Ok((address("127.0.0.1"), 80))
    );
    assert_eq!(
        read(&sockaddr(inet6, six, 81, 28)),
        Ok((address("::1"), 81))
    );
    assert_eq!(
        read(&sockaddr(inet6, six, 81, 24)),
        Ok((address("::1"), 81))
    );
    assert_eq!(
        read(&sockaddr(inet6, mapped, 82, 28)),
        Ok((address("127.0.0.1"), 82))
    );
    assert_eq!(
        read(&sockaddr(unspecified, any, 83, 16)),
        Ok((address("0.0.0.0"), 83))
    );

    assert_eq!(
        read(&sockaddr(unspecified, four, 83, 16)),
        Err(Reason::NotInet)
    );
    assert_eq!(read(&sockaddr(unix, four, 80, 16)), Err(Reason::NotInet));
    assert_eq!(read(&sockaddr(unix, four, 80, 2)), Err(Reason::NotInet));
    assert_eq!(
        read(&sockaddr(inet, four, 80, 15)),
        Err(Reason::ShortAddress)
    );
    assert_eq!(
        read(&sockaddr(inet6, six, 80, 23)),
        Err(Reason::ShortAddress)
    );
    assert_eq!(
        read(&sockaddr(inet6, six, 80, 8)),
        Err(Reason::ShortAddress)
    );
    assert_eq!(read(&[2]), Err(Reason::ShortAddress));
    assert_eq!(read(&[]), Err(Reason::ShortAddress));
    // SAFETY: nothing is read from an address in the first page.
    unsafe {
        let null = std::ptr::null();
        assert_eq!(Sockaddr::new(null, 0).err(), Some(Reason::NoAddress));
        let low = std::ptr::without_provenance(8);
        assert_eq!(Sockaddr::new(low, 16).err(), Some(Reason::NoAddress));
    }
}

/// The hooks as plain functions: this process has not loaded them in front of
/// the C library's.
mod hooked {
    use std::ffi::{c_int, c_long};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use crate::{arch, hooks};

    type Syscall = unsafe extern "C" fn(c_long, c_int, *const u8, c_long) -> c_long;

    fn syscalls() -> [Syscall; 2] {
        // SAFETY: both take the number and arguments of a system call in the
        // registers of the C ABI.
        [arch::syscall, arch::raw_syscall].map(|function| unsafe {
            std::mem::transmute::<unsafe extern "C" fn(), Syscall>(function)
        })
    }

    fn errno() -> Option<i32> {
        std::io::Error::last_os_error().raw_os_error()
    }

    #[test]
    fn bind_gives_the_results_and_the_errno_of_the_real_one() {
        let bound = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = bound.local_addr().expect("an address").port();
        let address = super::sockaddr(2, std::net::Ipv4Addr::LOCALHOST.into(), port, 16);
        // SAFETY: bind(2) checks what it is given; `address` has 16 bytes.
        unsafe {
            assert_eq!(hooks::bind(-1, address.as_ptr().cast(), 16), -1);
            assert_eq!(errno(), Some(libc::EBADF));
            assert_eq!(hooks::bind(bound.as_raw_fd(), std::ptr::null(), 0), -1);
            assert_eq!(errno(), Some(libc::EINVAL));
            assert_eq!(
                hooks::bind(bound.as_raw_fd(), address.as_ptr().cast(), 16),
                -1
            );
            assert_eq!(errno(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn syscall_passes_every_number_on_and_sets_errno() {
        for syscall in syscalls() {
            // SAFETY: getpid(2) takes no argument; bind(2) checks its own.
            unsafe {
                let process = syscall(libc::SYS_getpid, 0, std::ptr::null(), 0);
                assert_eq!(process, std::process::id().into());
                assert_eq!(syscall(libc::SYS_bind, -1, std::ptr::null(), 0), -1);
                assert_eq!(errno(), Some(libc::EBADF));
            }
        }
    }
}

/// Text in which address-like and list-like things are likely.
fn text() -> impl Strategy<Value = String> {
    "[0-9a-f:./, \\-\\[\\]!*?\\\\x%+]{0,40}"
}

proptest! {
    #[test]
    fn nothing_panics(value: Vec<u8>, near in text()) {
        for &variable in Variable::ALL {
            for value in [value.as_slice(), near.as_bytes()] {
                if let Err(invalid) = parse(&[(variable, value)]) {
                    prop_assert_eq!(invalid.variable, variable);
                    let _ = invalid.text(value);
                }
            }
        }
    }

    #[test]
    fn lists_of_prefixes_are_printed_back_the_same(list in text()) {
        if let Ok(rules) = parse_one(Variable::Addr, &list) {
            let printed: Vec<_> = rules.addresses.as_slice().iter().map(ToString::to_string).collect();
            let again = parse_one(Variable::Addr, &printed.join(",")).expect("what was printed");
            prop_assert_eq!(rules.addresses.as_slice(), again.addresses.as_slice());
        }
    }

    #[test]
    fn any_address_is_read_as_the_standard_library_reads_it(text in "[0-9a-f:.]{0,24}") {
        let ours = parse_one(Variable::Addr, &text).ok();
        let theirs = text.parse::<IpAddr>().ok();
        prop_assert_eq!(ours.is_some(), theirs.is_some() || text.is_empty());
        if let Some(theirs) = theirs {
            prop_assert!(selects_address(&text, &theirs.to_string()));
        }
    }

    #[test]
    fn every_address_selects_itself(bits: u128, length in 0_u8..=128) {
        let address = Ipv6Addr::from_bits(bits);
        for list in [format!("{address}"), format!("{address}/128")] {
            prop_assert!(selects_address(&list, &address.to_string()));
        }
        let list = format!("{address}/{length}");
        let canonical = parse_one(Variable::Addr, &list).expect("valid");
        let printed = canonical.addresses.as_slice()[0].to_string();
        let again = parse_one(Variable::Addr, &printed).expect("what was printed");
        prop_assert_eq!(canonical.addresses.as_slice(), again.addresses.as_slice());
    }

    #[test]
    fn ports_are_printed_back_the_same(ranges in prop::collection::vec((0_u16.., 0_u16..), 1..64)) {
        let list: Vec<_> = ranges
            .iter()
            .map(|(a, b)| if a == b { a.to_string() } else { format!("{}-{}", a.min(b), a.max(b)) })
            .collect();
        let rules = parse_one(Variable::Port, &list.join(" , ")).expect("valid");
        let printed: Vec<_> = rules.ports.as_slice().iter().map(ToString::to_string).collect();
        prop_assert_eq!(printed, list);
    }

    #[test]
    fn a_name_without_special_characters_matches_itself_alone(name in "[a-z0-9._+-]{1,20}", other in "[a-z0-9._+-]{1,20}") {
        let mut values = Values::default();
        values.set_first(Variable::Program, name.as_bytes());
        let globs = Globs::of(&values).expect("valid").expect("set");
        prop_assert!(globs.matches(name.as_bytes()));
        prop_assert_eq!(globs.matches(other.as_bytes()), name == other);
    }
}
