//! What grammars match, and what is refused.

use super::*;
use crate::error::Error;

/// The grammar for JSON that comes with llama.cpp.
const JSON: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"#;

/// llama.cpp's example of arithmetic.
const ARITHMETIC: &str = r"
root  ::= (expr '=' ws term '\n')+
";

const ARITHMETIC_GBNF: &str = r#"root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"#;

const LIST: &str = r#"
root ::= item+
# Excludes various line break characters
item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]+ "\n"
"#;

const CHESS: &str = r#"
# Specifies chess moves as a list in algebraic notation, using PGN conventions
root   ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move   ::= (pawn | nonpawn | castle) [+#]?
# piece type, optional file/rank, optional capture, dest file & rank
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
# optional file & capture, dest file & rank, optional promotion
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"#;

/// Grammar, texts it matches, texts it does not.
const CASES: [(&str, &[&str], &[&str]); 27] = [
    (
        JSON,
        &[
            "{}",
            "{ }",
            "{\"a\":1}",
            "{\n  \"a\": [1, -2.5e3, {\"b\":null}], \"c\": \"\\u00e9\\n\"\n}",
        ],
        &["", "[]", "{\"a\"}", "{\"a\":01}", "{\"a\":1,}", "{\"a\":\"\n\"}", "{\n\n}"],
    ),
    (
        ARITHMETIC_GBNF,
        &["x=1\n", "(a1 +2)*b = 7\n", "1+2= 3\nx=y\n", "((1))=1\n"],
        &["", "x=", "x==1\n", "(1=1\n", "1+=2\n"],
    ),
    (LIST, &["- a\n", "- one item\n- zwei \u{e9}\n"], &["", "- \n", "-a\n", "- a\u{2028}\n"]),
    (
        CHESS,
        &["1. e4 e5\n2. Nf3 Nc6\n", "1. e4 d5\n2. exd5 Qxd5+\n10. O-O O-O-O\n"],
        &["1. e4 e5\n", "1. e9 e5\n2. a4 a5\n", "e4"],
    ),
    ("root ::= \"a\" | \"b\"", &["a", "b"], &["", "ab", "c"]),
    ("root ::= \"a\" |\n  \"b\"\n", &["a", "b"], &["", "ab"]),
    ("root ::= \"\"", &[""], &["a"]),
    ("root ::=", &[""], &["a"]),
    ("root ::= \"a\"?", &["", "a"], &["aa"]),
    ("root ::= \"ab\"{2}", &["abab"], &["ab", "ababab"]),
    ("root ::= \"a\"{2,}", &["aa", "aaaa"], &["a", ""]),
    ("root ::= \"a\"{0,2}", &["", "a", "aa"], &["aaa"]),
    ("root ::= \"a\"{0}", &[""], &["a"]),
    ("root ::= ( \"a\" { 1 , 2 } \"b\" )+", &["ab", "aabab"], &["", "aaab"]),
    ("root ::= [^a-c\\]-]", &["d", "\n", "\u{1f600}"], &["a", "b", "-", "]", "dd", ""]),
    ("root ::= [az-]", &["a", "-", "z"], &["b"]),
    ("root ::= .{3}", &["abc", "a\n\u{e9}"], &["ab", "abcd"]),
    (
        "root ::= \"\\x41\\u00e9\\U0001F600\\t\\\"\\\\\\[\\]\"",
        &["A\u{e9}\u{1f600}\t\"\\[]"],
        &["A", ""],
    ),
    ("root ::= a-b_1 # one\na-b_1 ::= \"x\" A\nA ::= \"y\"", &["xy"], &["x", "y"]),
    ("root ::= \"(\" root \")\" | \"x\"", &["x", "((x))"], &["(x", "()", "x)"]),
    ("root ::= root \"a\" | \"b\"", &["b", "baaa"], &["a", "ab"]),
    (
        "root ::= [a-z]+ x\nx ::= \"e\" x \"nd\" | \".\"",
        &["a.", "xe.nd", "eee.ndnd"],
        &[".", "e.n", "a.nd"],
    ),
    (
        "root ::= list\nlist ::= name (\", \" list)?\nname ::= [a-z ]+ | [a-z]+ \",\" [0-9]",
        &["a", "a b, c", "a,1, b"],
        &["a,", "a, ", ", a"],
    ),
    (
        "root ::= \"<\" ws root? ws \">\" ws\nws ::= \" \"*",
        &["<>", "< < >  >", "<<>> "],
        &["<", " <>", "<x>"],
    ),
    ("root ::= [a-z]+ \"end\"", &["xend", "endend"], &["end", "xen"]),
    (
        "root ::= (\"a\" | \"ab\" | \"abc\")+ \"c\"",
        &["ac", "abc", "abcc", "abac"],
        &["a", "ab", "abca"],
    ),
    (
        "root ::= \"[\" (value (\",\" value)*)? \"]\"\nvalue ::= [0-9]+ | root | \"\" \"t\"",
        &["[]", "[1,[2,t],[]]"],
        &["[", "[,]", "[1,]"],
    ),
];

#[test]
fn grammars_match_what_they_say() {
    for (grammar, matching, other) in CASES {
        let constraint = crate::Constraint::gbnf(grammar).unwrap();
        let accepts = |texts: &[&str]| crate::constrain::accepts(&constraint, texts).unwrap();
        for (text, accepted) in matching.iter().zip(accepts(matching)) {
            assert!(accepted, "{grammar}\ndoes not match {text:?}: {constraint:?}");
        }
        for (text, accepted) in other.iter().zip(accepts(other)) {
            assert!(!accepted, "{grammar}\nmatches {text:?}: {constraint:?}");
        }
    }
}

#[test]
fn what_is_no_grammar_is_refused_by_line_and_column() {
    for (grammar, at, problem) in [
        ("", "line 1, column 1", "there is no rule \"root\""),
        ("x ::= \"a\"", "line 1, column 1", "there is no rule \"root\""),
        ("root ::= x\n", "line 1, column 10", "rule \"x\" is not defined"),
        ("root = \"a\"", "line 1, column 6", "expected \"::=\""),
        ("root ::= \"a", "line 1, column 10", "the text is not closed"),
        ("root ::= \"a\"\n\n  x ::= [a", "line 3, column 9", "the class is not closed"),
        ("root ::= (\"a\"", "line 1, column 10", "the group is not closed"),
        ("root ::= (\"a\" $", "line 1, column 15", "expected an element"),
        ("root ::= \"a\")", "line 1, column 13", "no group to close"),
        ("root ::= \"a\" $", "line 1, column 14", "expected the end of the line"),
        ("root ::= * \"a\"", "line 1, column 10", "nothing to repeat"),
        ("root ::= \"a\"{x}", "line 1, column 14", "expected a number"),
        ("root ::= \"a\"{3,2}", "line 1, column 17", "fewer than"),
        ("root ::= \"a\"{9999}", "line 1, column 14", "more than 2000"),
        ("root ::= \"a\"{99999999999999999999}", "line 1, column 14", "more than 2000"),
        ("root ::= \"a\"{1", "line 1, column 15", "expected \"}\""),
        ("root ::= \"\\q\"", "line 1, column 12", "unknown escape"),
        ("root ::= \"\\uD800\"", "line 1, column 13", "4 digits"),
        ("root ::= \"\\x4\"", "line 1, column 13", "2 digits"),
        ("root ::= []", "line 1, column 10", "the class is empty"),
        ("root ::= [z-a]", "line 1, column 14", "the range ends"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1", "defined twice"),
        ("root ::= \u{e9}", "line 1, column 10", "expected the end"),
        (ARITHMETIC, "line 2, column 17", "expected an element"),
    ] {
        let error = to_lark(grammar).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("grammar, {at}: ")), "{grammar:?}: {text}");
        assert!(text.contains(problem), "{grammar:?}: {text}");
    }
}

#[test]
fn large_grammars_are_refused() {
    let open = format!("root ::= {}\"a\"{}", "(".repeat(200), ")".repeat(200));
    assert!(matches!(to_lark(&open), Err(Error::Misuse(_))));
    let signs = format!("root ::= \"a\"{}", "?".repeat(50_000));
    assert!(matches!(to_lark(&signs), Err(Error::Misuse(_))));
    let long = format!("root ::= \"{}\"", "a".repeat(300_000));
    assert!(matches!(to_lark(&long), Err(Error::Limit { .. })));
    let rules: String = (0..3000).map(|i| format!("a{i} ::= a{}\n", i + 1)).collect();
    assert!(matches!(
        to_lark(&format!("root ::= a0\n{rules}a3000 ::= \"x\"")),
        Err(Error::Limit { .. })
    ));
}
