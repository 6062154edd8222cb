//! Every way to get a profile wrong, told with its line and a hint.

use expect_test::expect;

use super::*;

#[test]
fn everything_is_told_at_once() {
    told(
        r#"titel = "x"
evidence = "datashet"
max_registers = 126
[[item]]
name = "power.activ"
read = "inputs:0"
type = "f23"
[[item]]
name = "voltage"
read = "input:70000"
type = "f32"
ordr = "ABCD"
"#,
        &expect![[r#"
            test/meter.toml:1: titel: unknown key (hint: did you mean "title"?)
            test/meter.toml:1: title: missing (hint: maker and model)
            test/meter.toml:1: source: missing (hint: the manual or page that the map is from)
            test/meter.toml:1: example: there is none (hint: registers from the manual or a device and what they mean)
            test/meter.toml:2: evidence: "datashet" is no evidence (hint: did you mean "datasheet"?)
            test/meter.toml:3: max_registers: must be 1 to 125, the most that Modbus allows
            test/meter.toml:5: item.name: "power.activ" is not an item that andon knows (hint: did you mean "power.active"?)
            test/meter.toml:6: item.read: there is no table "inputs" (hint: did you mean "input"?)
            test/meter.toml:7: item.type: there is no type "f23" (hint: one of bool, u16, i16, u32, i32, u64, i64, f32, f64, bcd2, bcd3, bcd4, sbcd2, sbcd3, sbcd4)
            test/meter.toml:10: item.read: "70000" is no address (hint: 0 to 65535, 0-based, decimal or 0x hexadecimal)
            test/meter.toml:12: item.ordr: unknown key (hint: did you mean "order"?)
        "#]],
    );
}

#[test]
fn syntax_is_told_alone() {
    told(
        "title = \nsource = 'x'\nevidence = [",
        &expect![[r#"
        test/meter.toml:1: string values must be quoted, expected literal string
        test/meter.toml:3: unclosed array, expected `]`
    "#]],
    );
}

#[test]
fn wrong_places_are_told() {
    told_when(
        "input:0x0000\"\ntype",
        "input:0xFFFF\"\ntype",
        &expect![[r#"
            test/meter.toml:7: item.read: goes beyond the last address, 0xFFFF
        "#]],
    );
    told_when(
        "holding:16\"\ntype",
        "input:1\"\ntype",
        &expect![[r#"
            test/meter.toml:9: item.read: input:0x0001+2 overlaps input:0x0000+2 of "power.active"
            test/meter.toml:18: example.registers: cuts input:0x0001+2 of "energy.import" in two
        "#]],
    );
    told_when(
        "max_registers = 10",
        "max_registers = 1",
        &expect![[r#"
        test/meter.toml:5: item.type: takes 2 registers, more than max_registers = 1
        test/meter.toml:9: item.type: takes 2 registers, more than max_registers = 1
    "#]],
    );
    told_when(
        "energy.import\"\nread",
        "power.active\"\nread",
        &expect![[r#"
        test/meter.toml:9: item.name: "power.active" is there twice
        test/meter.toml:9: item.name: no example covers "power.active" (hint: add its registers and value to an [[example]])
        test/meter.toml:14: item.unit: "kWh" is not a unit of "power.active" (hint: "power.active" is in W)
        test/meter.toml:19: example.expect: "energy.import" is not an item of this profile
    "#]],
    );
}

#[test]
fn wrong_types_and_units_are_told() {
    told_when(
        "\"kWh\"",
        "\"kW\"",
        &expect![[r#"
            test/meter.toml:14: item.unit: "kW" is not a unit of "energy.import" (hint: "energy.import" is in Wh)
        "#]],
    );
    told_when(
        "divide_by = 100",
        "divide_by = 0",
        &expect![[r#"
            test/meter.toml:15: item.scale: cannot be zero or infinite (hint: scale may be negative, divide_by must be above 0)
        "#]],
    );
    told_when(
        "0xFFFF_FFFF",
        "0x1_FFFF_FFFF",
        &expect![[r#"
        test/meter.toml:16: item.sentinel: does not fit in 32 bits
    "#]],
    );
    told_when(
        "\"u32\"\norder",
        "\"bool\"\norder",
        &expect![[r#"
            test/meter.toml:12: item.bit: missing: which bit of the register? (hint: bit = 0 is the least significant)
        "#]],
    );
    told_when(
        "type = \"f32\"",
        "type = \"f32\"\nwritable = true",
        &expect![[r#"
        test/meter.toml:9: item.writable: only a coil can be written
    "#]],
    );
    told_when(
        "\"CDAB\"",
        "\"CDBA\"",
        &expect![[r#"
            test/meter.toml:13: item.order: there is no order "CDBA" (hint: one of ABCD, CDAB, BADC, DCBA)
        "#]],
    );
}

#[test]
fn what_would_read_right_is_told() {
    told_when(
        "divide_by = 100",
        "divide_by = 1000",
        &expect![[r#"
        test/meter.toml:19: example.expect: "energy.import" reads 123 Wh, not 1230 Wh (hint: 10 times too small: is it scale, divide_by or unit?)
    "#]],
    );
    told_when(
        "unit = \"kWh\"\n",
        "",
        &expect![[r#"
        test/meter.toml:18: example.expect: "energy.import" reads 1.23 Wh, not 1230 Wh (hint: 1000 times too small: is it scale, divide_by or unit?)
    "#]],
    );
    told_when(
        "type = \"f32\"",
        "type = \"u32\"",
        &expect![[r#"
        test/meter.toml:19: example.expect: "power.active" reads 1153140736 W, not 1500.25 W (hint: as type = "f32" it would)
    "#]],
    );
    told_when(
        "\"kWh\"",
        "\"kwh\"",
        &expect![[r#"
        test/meter.toml:14: item.unit: "kwh" is not a unit that andon knows (hint: did you mean "kWh"?)
    "#]],
    );
}

#[test]
fn an_address_in_the_wrong_base_is_told_with_the_right_one() {
    told_when(
        "read = \"holding:16\"",
        "read = \"holding:10\"",
        &expect![[r#"
        test/meter.toml:19: example.expect: the registers do not hold holding:0x000A+2, which is 10 in decimal (hint: did you mean "holding:0x0010"?)
    "#]],
    );
    told_when(
        "read = \"holding:16\"",
        "read = \"holding:100A\"",
        &expect![[r#"
        test/meter.toml:11: item.read: "100A" is no address (hint: did you mean "holding:0x100A"?)
    "#]],
    );
}

#[test]
fn what_follows_from_a_refusal_is_not_told_again() {
    told(
        &SOUND.replace("power.active\"\n", "power.activ\"\n"),
        &expect![[r#"
        test/meter.toml:6: item.name: "power.activ" is not an item that andon knows (hint: did you mean "power.active"?)
    "#]],
    );
    told(
        &SOUND.replacen("power.active", "power.activ", 9),
        &expect![[r#"
        test/meter.toml:6: item.name: "power.activ" is not an item that andon knows (hint: did you mean "power.active"?)
    "#]],
    );
    told_when(
        "divide_by = 100",
        "divideby = 100",
        &expect![[r#"
        test/meter.toml:15: item.divideby: unknown key (hint: did you mean "divide_by"?)
    "#]],
    );
    let (items, _) = SOUND.split_once("[[example]]").unwrap();
    told(
        items,
        &expect![[r#"
        test/meter.toml:1: example: there is none (hint: registers from the manual or a device and what they mean)
    "#]],
    );
}

#[test]
fn examples_that_do_not_hold_are_told() {
    told_when(
        "1500.25",
        "1500.5",
        &expect![[r#"
        test/meter.toml:19: example.expect: "power.active" reads 1500.25 W, not 1500.5 W (hint: table, address, type, order, unit or scale of the item is wrong)
    "#]],
    );
    told_when(
        "\"CDAB\"",
        "\"ABCD\"",
        &expect![[r#"
            test/meter.toml:19: example.expect: "energy.import" reads 80609280 Wh, not 1230 Wh (hint: with order = "CDAB" it would)
        "#]],
    );
    told_when(
        "[123, 0]",
        "[123]",
        &expect![[r#"
            test/meter.toml:18: example.registers: cuts holding:0x0010+2 of "energy.import" in two
        "#]],
    );
    told_when(
        ", \"energy.import\" = 1230",
        "",
        &expect![[r#"
        test/meter.toml:9: item.name: no example covers "energy.import" (hint: add its registers and value to an [[example]])
    "#]],
    );
    told_when(
        "1500.25",
        "\"sentinal\"",
        &expect![[r#"
        test/meter.toml:5: item.name: no example covers "power.active" (hint: add its registers and value to an [[example]])
        test/meter.toml:19: example.expect: must be a number, true, false or "sentinel"
    "#]],
    );
    told_when(
        "\"power.active\" = 1500.25",
        "\"power.activ\" = 1500.25",
        &expect![[r#"
        test/meter.toml:5: item.name: no example covers "power.active" (hint: add its registers and value to an [[example]])
        test/meter.toml:19: example.expect: "power.activ" is not an item of this profile (hint: did you mean "power.active"?)
    "#]],
    );
    told_when(
        "[0x44BB, 0x8800]",
        "[0x7F00, 0x0000]",
        &expect![[r#"
            test/meter.toml:19: example.expect: "power.active" reads 170141180000000000000000000000000000000 W, not 1500.25 W (hint: table, address, type, order, unit or scale of the item is wrong)
        "#]],
    );
}

#[test]
fn evidence_names_its_witness() {
    told_when(
        "\"datasheet\"",
        "\"verified\"",
        &expect![[r#"
        test/meter.toml:3: verified: missing, though the evidence is "verified" (hint: verified = "who, when, on which device")
    "#]],
    );
    told_when(
        "\"datasheet\"",
        "\"datasheet\"\nverified = \"me\"",
        &expect![[r#"
        test/meter.toml:4: verified: the evidence is not "verified" (hint: set evidence = "verified" or remove it)
    "#]],
    );
    let text = SOUND.replacen("\"datasheet\"", "\"verified\"\nverified = \"W., 2026, no. 7\"", 1);
    let evidence = check(&text, "test/meter").unwrap().evidence;
    assert_eq!(evidence, Evidence::Verified { by: "W., 2026, no. 7".to_owned() });
}

#[test]
fn bits_of_one_register_are_two_items() {
    let text = r#"title = "A board"
source = "its manual"
evidence = "trial"
item = [
  { name = "input.1", read = "holding:5", type = "bool", bit = 0 },
  { name = "input.2", read = "holding:5", type = "bool", bit = 3 },
]
example = [{ registers = { "holding:5" = [8] }, expect = { "input.1" = false, "input.2" = true } }]
"#;
    assert_eq!(check(text, "test/board").unwrap().items.len(), 2);
    told(
        &text.replace("bit = 3", "bit = 0"),
        &expect![[r#"
            test/meter.toml:6: item.read: holding:0x0005+1 overlaps holding:0x0005+1 of "input.1"
        "#]],
    );
    told(
        &text.replace("bit = 3", "bit = 16"),
        &expect![[r#"
            test/meter.toml:6: item.bit: must be 0 to 15 (hint: 0 is the least significant)
        "#]],
    );
}

#[test]
fn endless_faults_and_endless_files_are_bounded() {
    let faults = "[[item]]\nx = 1\n".repeat(10_000);
    assert!(check(&faults, "test/faults").unwrap_err().len() <= toml_reader::PROBLEMS_MAX);
    let long = "#".repeat(PROFILE_BYTES_MAX + 1);
    told(
        &long,
        &expect![[r#"
        test/meter.toml:1: longer than 262144 bytes
    "#]],
    );
}

#[test]
fn settings_that_cannot_be_written_are_refused() {
    let with = |setting: &str| SOUND.replacen("[[item]]", &format!("{setting}\n[[item]]"), 1);
    told(
        &with("[setting.adress]\nwrite = \"holding:2\"\ntype = \"u16\""),
        &expect![[r#"
            test/meter.toml:5: setting.adress: unknown key (hint: did you mean "address"?)
        "#]],
    );
    told(
        &with("[setting.address]\nwrite = \"input:2\"\ntype = \"u16\"\nfuncton = 6"),
        &expect![[r#"
            test/meter.toml:6: setting.write: is no holding register (hint: write "holding:0x0014")
            test/meter.toml:8: setting.functon: unknown key (hint: did you mean "function"?)
        "#]],
    );
    told(
        &with("[setting.address]\nwrite = \"holding:2\"\ntype = \"bool\""),
        &expect![[r#"
            test/meter.toml:7: setting.type: there is no number "bool"
        "#]],
    );
    told(
        &with("[setting.address]\nwrite = \"holding:2\"\ntype = \"f32\"\nfunction = 6"),
        &expect![[r#"
            test/meter.toml:8: setting.function: must be 16, or 6 for one register
        "#]],
    );
    told(
        &with("[identity]\n\"holdin:2\" = [1]"),
        &expect![[r#"
            test/meter.toml:6: identity: there is no table "holdin" (hint: did you mean "holding"?)
        "#]],
    );
}

#[test]
fn protocols_do_not_mix_and_scale_registers_lie_beside_their_number() {
    told_when(
        "read = \"holding:16\"\ntype = \"u32\"",
        "read = \"di:00010000\"\ntype = \"u32\"",
        &expect![[r#"
            test/meter.toml:9: item.type: an identifier holds decimal digits: bcd2 to bcd4, sbcd2 to sbcd4 with a sign
            test/meter.toml:9: item.read: a device speaks one protocol: all items in Modbus tables, or none
        "#]],
    );
    told_when(
        "read = \"holding:16\"",
        "read = \"di:0001000\"",
        &expect![[r#"
            test/meter.toml:11: item.read: "0001000" is no data identifier (hint: eight hexadecimal digits, "di:00010000"; four for DL/T 645-1997)
        "#]],
    );
    told_when(
        "unit = \"kWh\"",
        "unit = \"kWh\"\nscale_register = \"input:18\"",
        &expect![[r#"
            test/meter.toml:15: item.scale_register: must be in the table of the number
        "#]],
    );
}
