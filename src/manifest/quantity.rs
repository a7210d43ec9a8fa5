//! Quantities of resources, and parts of them:
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// One of `count` equal parts of `quantity` of `resource`, no more than all of them
/// together.
///
/// # Errors
/// Why there is none.
pub(super) fn part(resource: &str, quantity: &str, count: usize) -> Result<String, &'static str> {
    const NONE: &str = "it is no quantity";
    let count = u128::try_from(count).map_err(|_| NONE)?;
    match resource {
        "cpu" => match thousandths(quantity).ok_or(NONE)? / count {
            0 => Err("less than a thousandth of a CPU would be left"),
            part => Ok(format!("{part}m")),
        },
        "memory" | "ephemeral-storage" => match whole(quantity).ok_or(NONE)? / count {
            0 => Err("nothing would be left"),
            part => Ok(bytes(part)),
        },
        _ => {
            let size = resource.strip_prefix("hugepages-").map_or(Some(1), whole);
            let all = whole(quantity).ok_or(NONE)?;
            let pages = size.filter(|size| *size > 0).ok_or(NONE)? * count;
            if all == 0 || all % pages != 0 {
                return Err("a part would be no whole number of them");
            }
            Ok(if resource.starts_with("hugepages-") {
                bytes(all / count)
            } else {
                (all / count).to_string()
            })
        }
    }
}

/// A number of bytes, with the largest suffix that leaves a whole number.
fn bytes(number: u128) -> String {
    let suffixes = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let suffix = suffixes
        .iter()
        .find(|(bits, _)| number.is_multiple_of(1 << bits));
    match suffix {
        Some((bits, suffix)) => format!("{}{suffix}", number >> bits),
        None => number.to_string(),
    }
}

fn whole(quantity: &str) -> Option<u128> {
    let thousandths = thousandths(quantity)?;
    thousandths
        .is_multiple_of(1000)
        .then_some(thousandths / 1000)
}

/// A quantity in thousandths, rounded down.
fn thousandths(quantity: &str) -> Option<u128> {
    let text = quantity.strip_prefix('+').unwrap_or(quantity);
    let end = text.find(|one: char| !one.is_ascii_digit() && one != '.');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa: u128 = format!("0{integer}{fraction}").parse().ok()?;
    let (factor, mut exponent): (u128, i32) = match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => (1, other.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    exponent = exponent
        .checked_add(3)?
        .checked_sub(fraction.len().try_into().ok()?)?;
    let number = mantissa.checked_mul(factor)?;
    let power = 10u128.checked_pow(exponent.unsigned_abs());
    match (exponent >= 0, power) {
        (true, Some(power)) => number.checked_mul(power),
        (true, None) => (number == 0).then_some(0),
        (false, power) => Some(power.map_or(0, |power| number / power)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_no_more_than_the_whole() {
        for (resource, quantity, count, part_of_it) in [
            ("cpu", "2", 4, "500m"),
            ("cpu", "500m", 3, "166m"),
            ("cpu", "0.5", 2, "250m"),
            ("cpu", "1.5e0", 3, "500m"),
            ("memory", "1Gi", 2, "512Mi"),
            ("memory", "1.5Gi", 3, "512Mi"),
            ("memory", "100M", 2, "50000000"),
            ("memory", "512Mi", 3, "178956970"),
            ("memory", "1048576", 2, "512Ki"),
            ("ephemeral-storage", "1e3", 2, "500"),
            ("nvidia.com/gpu", "4", 2, "2"),
            ("hugepages-2Mi", "8Mi", 2, "4Mi"),
        ] {
            let found = part(resource, quantity, count);
            assert_eq!(found.as_deref(), Ok(part_of_it), "{quantity} of {resource}");
        }
    }

    #[test]
    fn what_has_no_parts_is_said() {
        for (resource, quantity, count) in [
            ("cpu", "1m", 2),
            ("cpu", "much", 2),
            ("cpu", "", 2),
            ("cpu", ".", 2),
            ("memory", "1", 2),
            ("memory", "1e99", 2),
            ("nvidia.com/gpu", "1", 2),
            ("nvidia.com/gpu", "0", 2),
            ("hugepages-2Mi", "6Mi", 2),
        ] {
            let found = part(resource, quantity, count);
            assert!(found.is_err(), "{quantity} of {resource}: {found:?}");
        }
    }
}
