//! Text from outside: one odd byte makes nothing unusable.

/// Text from bytes: by their byte order mark, else UTF-8. What is neither becomes U+FFFD.
pub fn text(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => wide(u16::from_be_bytes, rest),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// UTF-16.
fn wide(read: fn([u8; 2]) -> u16, bytes: &[u8]) -> String {
    let (units, odd) = bytes.as_chunks::<2>();
    let units = units.iter().map(|&unit| read(unit));
    let mut text: String =
        char::decode_utf16(units).map(|letter| letter.unwrap_or('\u{fffd}')).collect();
    if !odd.is_empty() {
        text.push('\u{fffd}');
    }
    text
}
