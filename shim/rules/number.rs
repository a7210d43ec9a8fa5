//! Decimal numbers, more strictly than `str::parse`.

/// A decimal number of digits alone, at most `maximum`: no sign, no space, and
/// no leading zero, which other programs take for octal.
pub fn parse(text: &[u8], maximum: u32) -> Option<u32> {
    if text.len() > 1 && text.first() == Some(&b'0') {
        return None;
    }
    let mut number: Option<u32> = None;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        let shifted = number.unwrap_or(0).checked_mul(10)?;
        number = Some(shifted.checked_add(u32::from(digit))?);
    }
    number.filter(|&number| number <= maximum)
}
