//! The classes of characters that pre-tokenizers tell apart: Unicode general
//! categories and white space.

use unicode_general_category::{GeneralCategory, get_general_category};

/// Bits: one for the category of a character, and one for each narrower
/// class that it belongs to besides.
pub(super) type Class = u16;

/// `\p{Lu}\p{Lt}`
pub(super) const UPPER: Class = 1;
/// `\p{Ll}`
pub(super) const LOWER: Class = 1 << 1;
/// `\p{Lm}\p{Lo}`: letters without case.
pub(super) const CASELESS: Class = 1 << 2;
/// `\p{M}`
pub(super) const MARK: Class = 1 << 3;
/// `\p{N}`
pub(super) const NUMBER: Class = 1 << 4;
/// `\p{P}`
pub(super) const PUNCTUATION: Class = 1 << 5;
/// `\p{S}`
pub(super) const SYMBOL: Class = 1 << 6;
/// `\p{Z}\p{C}`
const OTHER: Class = 1 << 7;
/// `\s`
pub(super) const SPACE: Class = 1 << 8;
/// `[\r\n]`
pub(super) const LINE_END: Class = 1 << 9;
/// `[0-9]`
pub(super) const DIGIT: Class = 1 << 10;
/// `[$+<=>^~|]`: the symbols of ASCII without the backtick.
pub(super) const ASCII_SYMBOL: Class = 1 << 11;

/// The character U+0020.
pub(super) const BLANK: Class = 1 << 12;

/// `\p{L}`
pub(super) const LETTER: Class = UPPER | LOWER | CASELESS;

/// Characters from the first to the last.
type Ranges = &'static [(char, char)];

/// A set of characters: in one of the classes `any` or of the ranges `plus`, in none of
/// `but` and of `minus`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    any: Class,
    but: Class,
    plus: Ranges,
    minus: Ranges,
}

/// `[classes]`
pub(super) const fn any(classes: Class) -> Set {
    Set { any: classes, but: 0, plus: &[], minus: &[] }
}

/// `[^classes]`
pub(super) const fn not(classes: Class) -> Set {
    Set { any: Class::MAX, but: classes, plus: &[], minus: &[] }
}

/// The characters of `plus`.
pub(super) const fn ranges(plus: Ranges) -> Set {
    Set { any: 0, but: 0, plus, minus: &[] }
}

impl Set {
    /// The set and the characters of `plus`.
    pub const fn with(self, plus: Ranges) -> Set {
        Set { plus, ..self }
    }

    /// The set without the characters of `minus`.
    pub const fn without(self, minus: Ranges) -> Set {
        Set { minus, ..self }
    }

    pub fn has(self, c: char) -> bool {
        let within =
            |ranges: Ranges| ranges.iter().any(|&(first, last)| (first..=last).contains(&c));
        let class = class(c);
        (class & self.any != 0 || within(self.plus)) && class & self.but == 0 && !within(self.minus)
    }
}

fn class(c: char) -> Class {
    match ASCII.get(c as usize) {
        Some(class) => *class,
        None => category(c) | if c.is_whitespace() { SPACE } else { 0 },
    }
}

fn category(c: char) -> Class {
    use GeneralCategory::*;
    match get_general_category(c) {
        UppercaseLetter | TitlecaseLetter => UPPER,
        LowercaseLetter => LOWER,
        ModifierLetter | OtherLetter => CASELESS,
        NonspacingMark | SpacingMark | EnclosingMark => MARK,
        DecimalNumber | LetterNumber | OtherNumber => NUMBER,
        ConnectorPunctuation | DashPunctuation | OpenPunctuation | ClosePunctuation
        | InitialPunctuation | FinalPunctuation | OtherPunctuation => PUNCTUATION,
        MathSymbol | CurrencySymbol | ModifierSymbol | OtherSymbol => SYMBOL,
        _ => OTHER,
    }
}

/// The classes of ASCII, which most text is.
static ASCII: [Class; 128] = {
    let mut classes = [OTHER; 128];
    let mut byte = 0u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'0'..=b'9' => NUMBER | DIGIT,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'~' | b'|' => SYMBOL | ASCII_SYMBOL,
            b'`' => SYMBOL,
            b'!'..=b'~' => PUNCTUATION,
            b'\r' | b'\n' => OTHER | SPACE | LINE_END,
            b' ' => OTHER | SPACE | BLANK,
            b'\t' | 0x0b | 0x0c => OTHER | SPACE,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_ascii_agrees_with_unicode() {
        for c in '\0'..'\u{80}' {
            let narrow = DIGIT | ASCII_SYMBOL | LINE_END | SPACE | BLANK;
            assert_eq!(class(c) & !narrow, category(c), "{c:?}");
            assert_eq!(any(SPACE).has(c), c.is_whitespace(), "{c:?}");
            assert_eq!(any(BLANK).has(c), c == ' ', "{c:?}");
            assert_eq!(any(DIGIT).has(c), c.is_ascii_digit(), "{c:?}");
            assert_eq!(any(LINE_END).has(c), matches!(c, '\r' | '\n'), "{c:?}");
            assert_eq!(any(ASCII_SYMBOL).has(c), "$+<=>^~|".contains(c), "{c:?}");
        }
    }

    #[test]
    fn sets() {
        assert!(any(LETTER).has('ǅ') && any(UPPER).has('ǅ') && any(CASELESS).has('字'));
        assert!(any(MARK).has('\u{301}') && !any(LETTER).has('\u{301}'));
        // A number written as letters is no letter, a space may be a control character.
        assert!(any(NUMBER).has('Ⅷ') && !any(LETTER).has('Ⅷ') && any(SPACE).has('\u{85}'));
        assert!(not(LETTER | SPACE).has('!') && !not(LETTER | SPACE).has('\n'));
    }
}
