//! What a template may take. minijinja's fuel counts instructions, and a few of them double a text as often as one
//! likes: so bytes are counted too. The allocator counts what a thread holds; a template's code is given places where
//! that is looked at (after everything that makes a value of any size), and what a single instruction could make
//! beyond all bounds is reckoned up before it is made.

use minijinja::machinery::{CompiledTemplate, Instruction, Instructions};
use minijinja::value::Value;
use minijinja::{Error, ErrorKind};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Bytes, for a conversation of none; a conversation's own bytes add to each.
const MOST_TEXT: usize = 16 << 20; // of one text, and of all that is written
const MOST_HELD: usize = 64 << 20;
const MOST_MADE: usize = 2 << 30;
const MOST_ITEMS: usize = 1 << 20; // of a list

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };  // wraps where a thread frees what others made
    static MADE: Cell<usize> = const { Cell::new(0) };
    static LIMITS: Cell<Limits> = const { Cell::new(Limits { text: 0, held: 0, made: 0, written: 0, held_before: 0, made_before: 0 }) };
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(block, layout, size) }
    }
}

fn count(made: usize, freed: usize) {
    // Gone only while a thread ends.
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(made).wrapping_sub(freed)));
    let _ = MADE.try_with(|all| all.set(all.get().wrapping_add(made)));
}

#[derive(Clone, Copy)]
struct Limits {
    text: usize,
    held: usize,
    made: usize,
    written: usize,
    held_before: usize,
    made_before: usize,
}

/// Counts from here on, for a template that is given so many bytes.
pub fn begin(context: usize) {
    LIMITS.set(Limits {
        text: MOST_TEXT + 8 * context,
        held: MOST_HELD + 32 * context,
        made: MOST_MADE + 256 * context,
        written: 0,
        held_before: HELD.get(),
        made_before: MADE.get(),
    });
}

fn beyond(what: String) -> Error {
    Error::new(ErrorKind::OutOfFuel, what)
}

/// Whether all that was made is within the limits.
pub fn check() -> Result<(), Error> {
    let limits = LIMITS.get();
    let held = HELD.get().wrapping_sub(limits.held_before);
    if held > limits.held && held < usize::MAX / 2 {
        return Err(beyond(format!("the template holds more than {} MB", limits.held >> 20)));
    }
    if MADE.get().wrapping_sub(limits.made_before) > limits.made {
        return Err(beyond(format!("the template has copied more than {} MB", limits.made >> 20)));
    }
    Ok(())
}

/// Whether a text of so many bytes may be made.
pub fn check_text(bytes: Option<usize>) -> Result<(), Error> {
    let most = LIMITS.get().text;
    match bytes {
        Some(bytes) if bytes <= most => check(),
        _ => Err(beyond(format!("a text of more than {} MB", most >> 20))),
    }
}

/// Before so many bytes are written.
pub fn write(bytes: usize) -> Result<(), Error> {
    let mut limits = LIMITS.get();
    limits.written += bytes;
    LIMITS.set(limits);
    if limits.written > limits.text {
        return Err(beyond(format!("the template writes more than {} MB", limits.text >> 20)));
    }
    check()
}

/// Lists may be lazy: of any length without any memory.
pub fn check_value(value: Value) -> Result<Value, Error> {
    check()?;
    if value.as_str().is_none() && value.len().is_some_and(|items| items > MOST_ITEMS) {
        return Err(beyond(format!("a list of more than {MOST_ITEMS} items")));
    }
    Ok(value)
}

/// Filters that no template can name.
pub const CHECK: &str = "check!";
pub const CONCAT: &str = "concat!";
pub const LOAD: &str = "load!";

pub type Blocks<'a> = BTreeMap<&'a str, Instructions<'a>>;

/// A template's code with these filters in it.
pub fn guarded<'a>(template: &CompiledTemplate<'a>) -> (Instructions<'a>, Blocks<'a>) {
    let blocks = template.blocks.iter().map(|(name, code)| (*name, guarded_code(code))).collect();
    (guarded_code(&template.instructions), blocks)
}

fn guarded_code<'a>(code: &Instructions<'a>) -> Instructions<'a> {
    let mut places = vec![0];  // of each instruction in the result
    for instruction in (0..).map_while(|at| code.get(at)) {
        places.push(places[places.len() - 1] + parts(instruction).len() as u32);
    }
    let place = |at: &u32| places[*at as usize];
    let mut result = Instructions::new(code.name(), code.source());
    for (at, instruction) in (0..).map_while(|at| Some((at, code.get(at)?))) {
        for mut part in parts(instruction) {
            match &mut part {
                Instruction::Iterate(to)
                | Instruction::Jump(to)
                | Instruction::JumpIfFalse(to)
                | Instruction::JumpIfFalseOrPop(to)
                | Instruction::JumpIfTrueOrPop(to)
                | Instruction::BuildMacro(_, to, _) => *to = place(to),
                _ => {}
            }
            result.add_with_line(part, code.get_line(at).unwrap_or(0) as u16);
        }
    }
    result
}

fn parts<'a>(instruction: &Instruction<'a>) -> Vec<Instruction<'a>> {
    const UNCACHED: u8 = !0;
    let filter = |name, arguments| Instruction::ApplyFilter(name, Some(arguments), UNCACHED);
    match instruction {
        Instruction::EmitRaw(text) => vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit],
        Instruction::StringConcat => vec![filter(CONCAT, 2)],
        Instruction::Include(_) | Instruction::LoadBlocks => vec![filter(LOAD, 1)],
        Instruction::Add
        | Instruction::Mul
        | Instruction::Slice
        | Instruction::ApplyFilter(..)
        | Instruction::CallFunction(..)
        | Instruction::CallMethod(..)
        | Instruction::CallObject(..) => vec![instruction.clone(), filter(CHECK, 1)],
        other => vec![other.clone()],
    }
}
