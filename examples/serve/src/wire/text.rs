//! Text from outside: one odd byte makes nothing unusable.

use std::borrow::Cow;

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

/// JSON as a strict reader takes it: what is not UTF-8, and halves of surrogate pairs
/// (JavaScript cuts texts inside a character), become U+FFFD, as Go's decoder has it.
/// Otherwise one odd character in a history would end the conversation.
pub fn json(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let halves = halves_of_pairs(&text);
    if halves.is_empty() {
        return text;
    }
    let mut mended = String::with_capacity(text.len());
    let mut done = 0;
    for at in halves {
        mended.push_str(&text[done..at]);
        mended.push_str("\\ufffd");
        done = at + ESCAPE;
    }
    mended.push_str(&text[done..]);
    Cow::Owned(mended)
}

/// Bytes of `\uXXXX`.
const ESCAPE: usize = 6;

/// Where escapes of surrogates stand that have no other half.
fn halves_of_pairs(text: &str) -> Vec<usize> {
    let unit = |at: usize| {
        let digits = text.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
        let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| hex)
    };
    let mut halves = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].find('\\') {
        at += next;
        match unit(at) {
            Some(0xd800..=0xdbff) => match unit(at + ESCAPE) {
                Some(0xdc00..=0xdfff) => at += 2 * ESCAPE,
                _ => {
                    halves.push(at);
                    at += ESCAPE;
                }
            },
            Some(0xdc00..=0xdfff) => {
                halves.push(at);
                at += ESCAPE;
            }
            Some(_) => at += ESCAPE,
            // Another escape: the backslash and a character of any length.
            None => {
                at += 1;
                at += text[at..].chars().next().map_or(0, char::len_utf8);
            }
        }
    }
    halves
}
