//! Every profile in the binary is sound, and every way to get one wrong is told, with its line.

use expect_test::Expect;

use super::*;

mod judging;
mod reading;

/// A profile without fault to break in every way.
const SOUND: &str = r#"title = "A meter"
source = "its manual"
evidence = "datasheet"
max_registers = 10
[[item]]
name = "power.active"
read = "input:0x0000"
type = "f32"
[[item]]
name = "energy.import"
read = "holding:16"
type = "u32"
order = "CDAB"
unit = "kWh"
divide_by = 100
sentinel = 0xFFFF_FFFF
[[example]]
registers = { "input:0x0000" = [0x44BB, 0x8800], "holding:16" = [123, 0] }
expect = { "power.active" = 1500.25, "energy.import" = 1230 }
"#;

fn told(text: &str, expected: &Expect) {
    let problems = check(text, "test/meter").unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

fn told_when(from: &str, to: &str, expected: &Expect) {
    assert!(SOUND.contains(from), "{from}");
    told(&SOUND.replacen(from, to, 1), expected);
}
