//! Steering programs: classic BPF, see socket(7), that gives the number of the
//! member which a new connection is to go to. A number that no member has leaves
//! the choice to the kernel's hash.

use std::collections::BTreeMap;

/// By what new connections are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steer {
    /// The kernel's own hash of addresses and ports.
    #[default]
    Hash,
    /// The CPU on which a connection comes in.
    Cpu,
    /// Chance.
    Random,
}

/// One instruction: `sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// From linux/bpf_common.h and linux/filter.h.
mod code {
    pub(super) const LOAD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const MODULO: u16 = 0x94;
    pub(super) const ADD: u16 = 0x04;
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
    pub(super) const JUMP_IF_AT_LEAST: u16 = 0x35;
    pub(super) const RETURN: u16 = 0x06;
    pub(super) const RETURN_ACCUMULATOR: u16 = 0x16;
    /// `SKF_AD_OFF + SKF_AD_CPU`, and `+ SKF_AD_RANDOM`.
    pub(super) const CPU: u32 = 0xffff_f000 + 36;
    pub(super) const RANDOM: u32 = 0xffff_f000 + 56;
    /// `SKF_NET_OFF`: the beginning of the IP header.
    pub(super) const NETWORK: u32 = 0xfff0_0000;
}

/// The kernel's limit, less a probe's instructions.
const MOST: usize = 4096 - 8 * 20;

/// The same, less what stands around the members left out.
const MOST_LEFT_OUT: usize = 1900;

fn plain(code: u16, value: u32) -> Instruction {
    Instruction {
        code,
        if_true: 0,
        if_false: 0,
        value,
    }
}

/// A program that spreads connections among those of the first `count` members
/// that `left_out`, in ascending order, does not list; `None` where that is nobody.
pub(super) fn spread(steer: Steer, count: usize, left_out: &[usize]) -> Option<Vec<Instruction>> {
    let chosen = u32::try_from(count.checked_sub(left_out.len())?).ok()?;
    if chosen == 0 || left_out.len() > MOST_LEFT_OUT {
        return None;
    }
    let source = match steer {
        Steer::Cpu => code::CPU,
        // While members are left out the kernel's hash, which knows nothing of
        // that, cannot be had.
        Steer::Random | Steer::Hash => code::RANDOM,
    };
    let mut program = vec![plain(code::LOAD, source), plain(code::MODULO, chosen)];
    for &one in left_out {
        program.push(Instruction {
            if_false: 1,
            ..plain(code::JUMP_IF_AT_LEAST, u32::try_from(one).ok()?)
        });
        program.push(plain(code::ADD, 1));
    }
    program.push(plain(code::RETURN_ACCUMULATOR, 0));
    Some(program)
}

/// Puts before `program` that what comes in on a CPU goes to the members that `own`
/// has for it, by chance where there are several.
pub(super) fn with_cpus(
    program: &[Instruction],
    own: &BTreeMap<usize, Vec<usize>>,
) -> Vec<Instruction> {
    let unless = |value: usize, skipped: usize| Instruction {
        if_false: u8::try_from(skipped).unwrap_or(0),
        ..plain(
            code::JUMP_IF_EQUAL,
            u32::try_from(value).unwrap_or(u32::MAX),
        )
    };
    let mut all = vec![plain(code::LOAD, code::CPU)];
    for (&cpu, members) in own {
        let chosen = |one: usize| plain(code::RETURN, u32::try_from(one).unwrap_or(u32::MAX));
        match members[..] {
            [one] => all.extend([unless(cpu, 1), chosen(one)]),
            // A jump reaches over 255 instructions.
            [_, _, ..] if members.len() <= 120 => {
                let count = u32::try_from(members.len()).unwrap_or(1);
                all.push(unless(cpu, 2 + 2 * members.len()));
                all.push(plain(code::LOAD, code::RANDOM));
                all.push(plain(code::MODULO, count));
                for (index, &member) in members.iter().enumerate() {
                    all.extend([unless(index, 1), chosen(member)]);
                }
            }
            _ => {}
        }
    }
    if all.len() + program.len() > MOST {
        return program.to_vec();
    }
    all.extend(program);
    all
}

/// A program that leaves the choice to the kernel's hash.
pub(super) fn by_hash() -> Vec<Instruction> {
    vec![plain(code::RETURN, u32::MAX)]
}

/// Puts before `program` that what comes from the port `port` goes to the member
/// `member`. Packets with IP options are not recognised.
pub(super) fn with_probe(program: &[Instruction], port: u16, member: usize) -> Vec<Instruction> {
    let equal = |value: u32, if_true: u8, if_false: u8| Instruction {
        if_true,
        if_false,
        ..plain(code::JUMP_IF_EQUAL, value)
    };
    let mut all = vec![
        plain(code::LOAD_BYTE, code::NETWORK),
        plain(code::SHIFT_RIGHT, 4),
        // The ports lie after a header of 20 bytes, or of 40 for IPv6.
        equal(6, 0, 2),
        plain(code::LOAD_HALF, code::NETWORK + 40),
        equal(port.into(), 2, 3),
        plain(code::LOAD_HALF, code::NETWORK + 20),
        equal(port.into(), 0, 1),
        plain(code::RETURN, u32::try_from(member).unwrap_or(u32::MAX)),
    ];
    all.extend(program);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `program` gives, with `source` for the CPU or the chance.
    fn run(program: &[Instruction], source: u32) -> u32 {
        run_on(program, source, source)
    }

    fn run_on(program: &[Instruction], cpu: u32, chance: u32) -> u32 {
        let mut accumulator = 0;
        let mut index = 0;
        loop {
            let one = program[index];
            index += 1;
            match one.code {
                code::LOAD if one.value == code::CPU => accumulator = cpu,
                code::LOAD => accumulator = chance,
                code::JUMP_IF_EQUAL if accumulator == one.value => {
                    index += usize::from(one.if_true);
                }
                code::JUMP_IF_EQUAL => index += usize::from(one.if_false),
                code::RETURN => return one.value,
                code::MODULO => accumulator %= one.value,
                code::ADD => accumulator += one.value,
                code::JUMP_IF_AT_LEAST => {
                    index += usize::from(if accumulator >= one.value {
                        one.if_true
                    } else {
                        one.if_false
                    });
                }
                code::RETURN_ACCUMULATOR => return accumulator,
                _ => panic!("{one:?}"),
            }
        }
    }

    #[test]
    fn members_that_are_left_out_get_nothing_and_the_others_equally_much() {
        for (count, left_out) in [
            (1, vec![]),
            (4, vec![]),
            (4, vec![0]),
            (4, vec![3]),
            (5, vec![1, 2]),
            (6, vec![0, 2, 5]),
            (300, (1..299).collect()),
        ] {
            let program = spread(Steer::Hash, count, &left_out).expect("somebody is chosen");
            let chosen = count - left_out.len();
            let results = (0..chosen).map(|source| run(&program, u32::try_from(source).unwrap()));
            let results: Vec<usize> = results.map(|one| one as usize).collect();
            let expected: Vec<usize> = (0..count).filter(|one| !left_out.contains(one)).collect();
            assert_eq!(results, expected, "{count} {left_out:?}");
        }
        assert_eq!(spread(Steer::Cpu, 2, &[0, 1]), None);
    }

    #[test]
    fn what_comes_in_on_a_cpu_goes_to_its_own_members() {
        let own = BTreeMap::from([(0, vec![2]), (3, vec![0, 4])]);
        let rest = spread(Steer::Cpu, 5, &[1]).expect("somebody is chosen");
        let program = with_cpus(&rest, &own);
        for chance in 0..10 {
            assert_eq!(run_on(&program, 0, chance), 2);
            let expected = if chance % 2 == 0 { 0 } else { 4 };
            assert_eq!(run_on(&program, 3, chance), expected);
            // A CPU that nobody is kept on.
            assert_eq!(run_on(&program, 5, chance), run(&rest, 5));
        }
    }
}
