use super::symbols::{RELA, SYMBOL};
use super::*;
use proptest::prelude::*;

/// One row of a section table, and its bytes.
struct Part {
    name: &'static str,
    kind: u32,
    link: u32,
    info: u32,
    body: Vec<u8>,
}

fn part(name: &'static str, kind: u32, link: u32, info: u32, body: impl Into<Vec<u8>>) -> Part {
    Part { name, kind, link, info, body: body.into() }
}

fn symbol(name: u32, info: u8, section: u16, value: u64) -> Vec<u8> {
    let mut out = name.to_le_bytes().to_vec();
    out.extend([info, 0]);
    out.extend(section.to_le_bytes());
    out.extend(value.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out
}

fn rela(offset: u64, symbol: u32, kind: u32) -> Vec<u8> {
    let info = u64::from(symbol) << 32 | u64::from(kind);
    [offset.to_le_bytes(), info.to_le_bytes(), (-4i64).to_le_bytes()].concat()
}

/// `.text` that calls the tracer, `used` (undefined), itself and the global `own`, and has a local `gone`; `.BTF`; an ORC table.
fn module() -> Vec<u8> {
    let strings = b"\0gone\0used\0own\0\0orc_symbol\0__fentry__\0";
    let symbols = [
        symbol(0, 0, 0, 0),
        symbol(0, 3, 1, 0),
        symbol(1, 2, 1, 8),
        symbol(16, 0, 4, 0),
        symbol(6, 0x10, 0, 0),
        symbol(11, 0x12, 1, 4),
        symbol(27, 0x10, 0, 0),
    ];
    let text = [0xe8, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3, 0x90, 0x90, 0xc3];
    let calls = [rela(1, 6, 4), rela(6, 4, 4), rela(10, 1, 2), rela(20, 5, 2)];
    let parts = [
        part("", 0, 0, 0, []),
        part(".text", 1, 0, 0, text),
        part(".BTF", 1, 0, 0, [0x9f; 500]),
        part(".rela.text", SHT_RELA, 7, 1, calls.concat()),
        part(".orc_unwind_ip", 1, 0, 0, [0; 8]),
        part(".rela.orc_unwind_ip", SHT_RELA, 7, 4, rela(0, 1, 2)),
        part(".modinfo", 1, 0, 0, *b"license=GPL\0"),
        part(".symtab", SHT_SYMTAB, 8, 4, symbols.concat()),
        part(".strtab", 3, 0, 0, strings.to_vec()),
        part(".bss", SHT_NOBITS, 0, 0, []),
        part("_ftrace_events", 1, 0, 0, [0; 8]),
        part(".rela_ftrace_events", SHT_RELA, 7, 10, rela(0, 1, 1)),
        part("_ftrace_eval_map", 1, 0, 0, [0; 8]),
        part("__tracepoints_ptrs", 1, 0, 0, [0; 4]),
        part("__bpf_raw_tp_map", 1, 0, 0, [0; 32]),
        part(".static_call_sites", 1, 0, 0, [0; 8]),
        part(".rela.static_call_sites", SHT_RELA, 7, 15, rela(0, 1, 2)),
        part(".shstrtab", 3, 0, 0, []),
    ];
    file(parts.into())
}

/// Three switched branches: of a tracepoint, of the module's own, of a debug message; and that message.
fn switched() -> Vec<u8> {
    let branch = |entry: u64, key: u32| {
        [rela(entry * 16, 1, 2), rela(entry * 16 + 4, 1, 2), rela(entry * 16 + 8, key, 24)].concat()
    };
    let symbols = [symbol(0, 0, 0, 0), symbol(0, 3, 1, 0), symbol(0, 3, 4, 0), symbol(0, 3, 6, 0), symbol(0, 3, 7, 0)];
    let parts = [
        part("", 0, 0, 0, []),
        part(".text", 1, 0, 0, [0x90; 64]),
        part("__jump_table", 1, 0, 0, [[1; 16], [2; 16], [3; 16]].concat()),
        part(".rela__jump_table", SHT_RELA, 8, 2, [branch(0, 3), branch(1, 4), branch(2, 2)].concat()),
        part("__dyndbg", 1, 0, 0, [7; 56]),
        part(".rela__dyndbg", SHT_RELA, 8, 4, rela(0, 1, 1)),
        part("__tracepoints", 1, 0, 0, [8; 80]),
        part(".data", 1, 0, 0, [9; 16]),
        part(".symtab", SHT_SYMTAB, 9, 5, symbols.concat()),
        part(".strtab", 3, 0, 0, [0]),
        part(".shstrtab", 3, 0, 0, []),
    ];
    file(parts.into())
}

/// `.text` that names `b`, `a` and again `b`, of which the kernel is to check the versions.
fn unordered() -> Vec<u8> {
    let version = |crc: u8, name: u8| [&[crc; 8][..], &[name], &[0; 55]].concat();
    let parts = [
        part("", 0, 0, 0, []),
        part(".text", 1, 0, 0, [0; 24]),
        part(".rela.text", SHT_RELA, 4, 1, [rela(16, 1, 4), rela(8, 2, 4), rela(0, 1, 4)].concat()),
        part("__versions", 1, 0, 0, [version(1, b'b'), version(2, b'a')].concat()),
        part(".symtab", SHT_SYMTAB, 5, 1, [symbol(0, 0, 0, 0), symbol(1, 16, 0, 0), symbol(3, 16, 0, 0)].concat()),
        part(".strtab", 3, 0, 0, *b"\0b\0a\0"),
        part(".shstrtab", 3, 0, 0, []),
    ];
    file(parts.into())
}

fn file(mut parts: Vec<Part>) -> Vec<u8> {
    let mut names = vec![0];
    let at: Vec<u32> = parts
        .iter()
        .map(|part| {
            let at = names.len() as u32;
            names.extend(part.name.bytes().chain([0]));
            at
        })
        .collect();
    let last = parts.len() - 1;
    parts[last].body = names;
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    out.resize(52, 0);
    for half in [64u16, 0, 0, 64, parts.len() as u16, last as u16] {
        out.extend(half.to_le_bytes());
    }
    let mut rows = Vec::new();
    for (part, name) in parts.iter().zip(at) {
        let size = if part.kind == SHT_NOBITS { 64 } else { part.body.len() as u64 };
        rows.extend(name.to_le_bytes());
        rows.extend(part.kind.to_le_bytes());
        [0, 0, out.len() as u64, size].iter().for_each(|word| rows.extend(u64::to_le_bytes(*word)));
        [part.link, part.info].iter().for_each(|word| rows.extend(word.to_le_bytes()));
        [1u64, 0].iter().for_each(|word| rows.extend(word.to_le_bytes()));
        out.extend(&part.body);
    }
    out.resize(out.len().next_multiple_of(8), 0);
    let table = out.len() as u64;
    out[40..48].copy_from_slice(&table.to_le_bytes());
    out.extend(rows);
    out.extend(b"~Module signature appended~\n");
    out
}

fn section<'e>(elf: &'e Elf, name: &str) -> &'e Section {
    elf.sections.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn what_is_not_needed_goes_and_the_rest_still_fits_together() {
    let before = module();
    let after = strip_module(&before).unwrap();
    assert!(after.len() + 500 < before.len() && !after.ends_with(b"appended~\n"));
    let elf = Elf::parse(&after).unwrap();
    let names: Vec<&str> = elf.sections.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["", ".text", ".rela.text", ".modinfo", ".symtab", ".strtab", ".bss", ".shstrtab"]);
    let text = &section(&elf, ".text").body;
    assert_eq!(text[..5], [0x0f, 0x1f, 0x44, 0, 0], "the kernel's own no-op of that length");
    assert_eq!(text[5..], section(&Elf::parse(&before).unwrap(), ".text").body[5..]);
    assert_eq!(section(&elf, ".bss").size, 64);
    assert_eq!(section(&elf, ".modinfo").body, b"license=GPL\0");

    let symbols = section(&elf, ".symtab");
    assert_eq!(elf.sections[symbols.link as usize].name, ".strtab");
    let strings = &section(&elf, ".strtab").body;
    let name = |i: u32| string_at(strings, u32_at(&symbols.body, i as usize * SYMBOL)).unwrap();
    let all: Vec<String> = (0..symbols.body.len() / SYMBOL).map(|i| name(i as u32)).collect();
    assert_eq!(all, ["", "", "used"], "its own have no names, nor that of a section that went");
    assert_eq!(symbols.info, 2, "locals come first");
    let rela = section(&elf, ".rela.text");
    assert_eq!(elf.sections[rela.info as usize].name, ".text");
    assert_eq!(elf.sections[rela.link as usize].name, ".symtab");
    let named = rela.body.chunks_exact(RELA).map(|r| (u64_at(r, 0), name(u32_at(r, 12)), u64_at(r, 16) as i64));
    let expected = [(10, "", -4), (20, "", 4 - 4), (6, "used", -4)].map(|(at, name, add)| (at, name.to_string(), add));
    assert_eq!(named.collect::<Vec<_>>(), expected, "new numbers, and the section for what lies in it");
    assert_eq!(strip_module(&after).unwrap(), after, "nothing is left to strip");
}

#[test]
fn branches_that_nothing_can_switch_go_and_messages_are_not_listed() {
    let elf = Elf::parse(&strip_module(&switched()).unwrap()).unwrap();
    let names: Vec<&str> = elf.sections.iter().map(|s| s.name.as_str()).collect();
    let expected = ["", ".text", "__jump_table", ".rela__jump_table", ".data.dyndbg", "__tracepoints", ".data"];
    assert_eq!(names[..7], expected);
    assert_eq!(section(&elf, "__jump_table").body, [2; 16], "the module's own");
    let rows = section(&elf, ".rela__jump_table").body.chunks_exact(RELA);
    let symbols = &section(&elf, ".symtab").body;
    let place = |number: u32| u16_at(symbols, number as usize * SYMBOL + 6) as usize;
    let rows: Vec<_> = rows.map(|r| (u64_at(r, 0), elf.sections[place(u32_at(r, 12))].name.as_str())).collect();
    assert_eq!(rows, [(0, ".text"), (4, ".text"), (8, ".data")], "it is the first one now");
    assert_eq!(section(&elf, ".data.dyndbg").body, [7; 56], "the code names it still");

    let mut lost = switched();
    let at = lost.windows(8).position(|w| w == (3u64 << 32 | 24).to_le_bytes()).expect("the first key");
    lost[at + 4..at + 8].fill(0xff);
    assert!(strip_module(&lost).unwrap_err().contains("names no symbol"));
}

#[test]
fn modinfo_keeps_what_the_kernel_looks_up() {
    let modinfo = |fields: &[&str]| -> Vec<u8> { fields.iter().flat_map(|f| f.bytes().chain([0])).collect() };
    let before = [
        "description=a card",
        "alias=pci:v*",
        "license=GPL",
        "author=who",
        "firmware=a.bin",
        "parm=debug:level",
        "parmtype=debug:int",
        "import_ns=CRYPTO",
        "import_ns=DMA",
        "srcversion=AB12",
        "version=1.0",
        "depends=mii",
        "softdep=pre: crc",
        "retpoline=Y",
        "intree=Y",
        "name=card",
        "namely=no",
        "vermagic=6.12 SMP ",
    ];
    let after = [
        "license=GPL",
        "import_ns=CRYPTO",
        "import_ns=DMA",
        "srcversion=AB12",
        "version=1.0",
        "retpoline=Y",
        "intree=Y",
        "name=card",
        "vermagic=6.12 SMP ",
    ];
    let parts = [part("", 0, 0, 0, []), part(".modinfo", 1, 0, 0, modinfo(&before)), part(".shstrtab", 3, 0, 0, [])];
    let elf = Elf::parse(&strip_module(&file(parts.into())).unwrap()).unwrap();
    assert_eq!(section(&elf, ".modinfo").body, modinfo(&after));
}

#[test]
fn rows_that_may_stand_in_any_order_are_sorted() {
    let elf = Elf::parse(&strip_module(&unordered()).unwrap()).unwrap();
    assert_eq!(section(&elf, ".strtab").body, b"\0a\0b\0");
    let rows = section(&elf, ".rela.text").body.chunks_exact(RELA);
    let rows: Vec<_> = rows.map(|r| (u32_at(r, 12), u64_at(r, 0))).collect();
    assert_eq!(rows, [(1, 8), (2, 0), (2, 16)], "by symbol, then by place");
    let versions = &section(&elf, "__versions").body;
    assert_eq!([versions[0], versions[8], versions[64], versions[72]], [2, b'a', 1, b'b']);
}

#[test]
fn what_has_functions_for_ebpf_keeps_all_but_its_call_sites() {
    let parts = [
        part("", 0, 0, 0, []),
        part(".static_call_sites", 1, 0, 0, [1; 8]),
        part(".rela.static_call_sites", SHT_RELA, 5, 1, rela(0, 1, 2)),
        part(".BTF", 1, 0, 0, [2; 8]),
        part(".BTF_ids", 1, 0, 0, [3; 8]),
        part(".symtab", SHT_SYMTAB, 6, 1, [symbol(0, 0, 0, 0), symbol(1, 18, 3, 4)].concat()),
        part(".strtab", 3, 0, 0, *b"\0own\0"),
        part(".orc_unwind_ip", 1, 0, 0, [0; 8]),
        part(".shstrtab", 3, 0, 0, []),
    ];
    let before = Elf::parse(&file(parts.into())).unwrap();
    let after = Elf::parse(&strip_module(&before.clone().write()).unwrap()).unwrap();
    assert_eq!(after.sections.len(), before.sections.len(), "symbols name sections by number");
    for (before, after) in before.sections.iter().zip(&after.sections) {
        assert_eq!((&before.name, before.link, before.info), (&after.name, after.link, after.info));
        match after.name.contains("static_call") {
            true => assert!(after.body.is_empty(), "{}", after.name),
            // Names of sections are written anew.
            false => assert!(after.name == ".shstrtab" || after.body == before.body, "{}", after.name),
        }
    }
}

#[test]
fn what_is_no_module_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", &[0; 64], &[0xff; 200]] {
        assert!(strip_module(bytes).is_err());
    }
    let parts = vec![part("", 0, 0, 0, []), part(".group", SHT_GROUP, 0, 0, [0; 8]), part(".shstrtab", 3, 0, 0, [])];
    assert!(strip_module(&file(parts)).unwrap_err().contains("`.group`"));
}

proptest! {
    #[test]
    fn damaged_modules_never_panic(
        changes in prop::collection::vec((0usize..2500, any::<u8>()), 1..12),
        cut in 1usize..2500,
        which in 0usize..3,
    ) {
        let mut bytes = [module, switched, unordered][which]();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut);
        let _ = strip_module(&bytes);
    }
}
