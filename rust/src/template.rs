//! Chat templates as transformers renders them.

use crate::ffi::*;
use crate::limits;
use crate::python::{python_str, tojson};
use minijinja::machinery::{get_compiled_template, make_string_output, Vm};
use minijinja::value::{Rest, Value};
use minijinja::{filters, AutoEscape, Environment, Error, ErrorKind, State};

const MAX_SOURCE: usize = 4 << 20;
const MAX_CONTEXT: usize = 256 << 20;
const FUEL: u64 = 50_000_000;
const RAISED: &str = "raise_exception: ";

pub struct FsTemplate(Environment<'static>);

/// # Safety
/// source points at size bytes; handle and error are writable.
#[no_mangle]
pub unsafe extern "C" fn fs_template_new(
    source: *const u8, size: usize, handle: *mut *mut FsTemplate, error: *mut FsBuffer,
) -> FsStatus {
    guard_new(handle, error, || {
        if size > MAX_SOURCE {
            return Err(Failure(FsStatus::Budget, format!("a template of {size} bytes: at most {MAX_SOURCE}")));
        }
        let mut environment = environment();
        let source = neutral_generation(unsafe { text(source, size) }?);
        environment.add_template_owned("chat", source).map_err(describe)?;
        Ok(FsTemplate(environment))
    })
}

/// *out: the text. context: a JSON object.
/// # Safety
/// context points at size bytes; out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_template_render(
    handle: *const FsTemplate, context: *const u8, size: usize, out: *mut FsBuffer,
) -> FsStatus {
    guard(out, || {
        if size > MAX_CONTEXT {
            return Err(Failure(FsStatus::Budget, format!("{size} bytes of messages: at most {MAX_CONTEXT}")));
        }
        let context: serde_json::Value =
            serde_json::from_slice(unsafe { bytes(context, size) }).map_err(invalid)?;
        let environment = &unsafe { &*handle }.0;
        let template = environment.get_template("chat").map_err(describe)?;
        let (code, blocks) = limits::guarded(get_compiled_template(&template));
        let context = Value::from_serialize(context);
        let mut text = String::new();
        limits::begin(size);
        Vm::new(environment)
            .eval(&code, context, &blocks, &mut make_string_output(&mut text), AutoEscape::None)
            .map_err(describe)?;
        Ok(text.into_bytes())
    })
}

/// # Safety
/// handle came from fs_template_new.
#[no_mangle]
pub unsafe extern "C" fn fs_template_free(handle: *mut FsTemplate) {
    guard_free(handle);
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(|out, _: &State, value| {
        let text = python_str(value)?;
        limits::write(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    environment.set_unknown_method_callback(|state, value, method, args| {
        match (method, value.as_str(), args) {
            ("format", ..) => check_format(value, args)?,
            ("join", Some(separator), [items]) => return join(items, Some(separator)),
            ("replace", Some(text), [old, new, ..]) => check_replace(text, old, new)?,
            _ => {}
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    environment.add_filter("format", |state: &State, format: &Value, args: Rest<Value>| {
        check_format(format, &args)?;
        filters::format(state, format, args)
    });
    environment.add_filter("join", |items: &Value, separator: Option<String>| join(items, separator.as_deref()));
    environment.add_filter("replace", |text: &Value, old: &Value, new: &Value| -> Result<String, Error> {
        let (text, old, new) = (python_str(text)?, python_str(old)?, python_str(new)?);
        check_replace(&text, &Value::from(&old), &Value::from(&new))?;
        Ok(text.replace(&old, &new))
    });
    environment.add_filter(limits::CHECK, limits::check_value);
    environment.add_filter(limits::CONCAT, |left: &Value, right: &Value| -> Result<String, Error> {
        let (left, right) = (python_str(left)?, python_str(right)?);
        limits::check_text(left.len().checked_add(right.len()))?;
        Ok(left + &right)
    });
    environment.add_filter(limits::LOAD, |_: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::TemplateNotFound, "a chat template stands alone"))
    });
    environment.add_filter("indent", bounded(Value::from_function(filters::indent)));
    environment.add_filter("batch", bounded(Value::from_function(filters::batch)));
    environment.add_filter("slice", bounded(Value::from_function(filters::slice)));
    environment.add_filter("tojson", |value: &Value, kwargs: minijinja::value::Kwargs| tojson(value, kwargs));
    environment.add_filter("string", |value: &Value| python_str(value));
    environment.add_filter("upper", |value: &Value| Ok::<_, Error>(python_str(value)?.to_uppercase()));
    environment.add_filter("lower", |value: &Value| Ok::<_, Error>(python_str(value)?.to_lowercase()));
    environment.add_filter("trim", trim);
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", |format: String| strftime_now(&format));
    environment
}

/// Widths and counts beyond this are no chat's: memory that cannot be had ends the process.
const WIDEST: i64 = 9999;

fn too_wide() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a width or count above {WIDEST}"))
}

/// The widths and precisions of a format string: runs of digits; and what it comes to where every place shows all.
fn check_format(format: &Value, args: &[Value]) -> Result<(), Error> {
    let text = format.as_str().unwrap_or_default();
    let wide = |digits: &str| digits.len() > WIDEST.to_string().len();
    if text.split(|c: char| !c.is_ascii_digit()).any(wide) {
        return Err(too_wide());
    }
    let mut shown = WIDEST as usize;
    for argument in args {
        shown = shown.saturating_add(python_str(argument)?.len());
    }
    limits::check_text(text.matches(['%', '{']).count().checked_mul(shown))
}

fn check_replace(text: &str, old: &Value, new: &Value) -> Result<(), Error> {
    let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else { return Ok(()) };
    let more = text.matches(old).count().checked_mul(new.len());
    limits::check_text(more.and_then(|more| more.checked_add(text.len())))
}

fn join(items: &Value, separator: Option<&str>) -> Result<Value, Error> {
    let mut result = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = python_str(&item)?;
        let separator = if index == 0 { "" } else { separator.unwrap_or_default() };
        limits::check_text(result.len().checked_add(separator.len() + item.len()))?;
        result.push_str(separator);
        result.push_str(&item);
    }
    Ok(result.into())
}

/// A filter of minijinja's whose arguments after the first are such numbers, or texts, for each line of the first.
fn bounded(filter: Value) -> impl Fn(&State, Rest<Value>) -> Result<Value, Error> {
    let width = |value: &Value| match (value.as_str(), value.as_i64(), value.as_usize()) {
        (Some(text), ..) => text.len() as i64,
        (_, Some(number), _) => number,
        (_, None, Some(_)) => i64::MAX,
        _ => 0,
    };
    move |state, args| {
        let mut widest = 0;
        for value in args.iter().skip(1) {
            let named = if value.is_kwargs() { value.try_iter()?.collect() } else { vec![] };
            let numbers = named.iter().filter_map(|key| value.get_item(key).ok()).map(|value| width(&value));
            widest = numbers.chain([width(value)]).fold(widest, i64::max);
        }
        if widest > WIDEST {
            return Err(too_wide());
        }
        let text = args.first().and_then(|text| text.as_str()).unwrap_or_default();
        limits::check_text((text.matches('\n').count() + 1).checked_mul(widest as usize).map(|more| more + text.len()))?;
        filter.call(state, &args)
    }
}

/// str(value).strip(characters): filters take what is no text as Python prints it.
fn trim(value: &Value, characters: Option<&str>) -> Result<String, Error> {
    let text = python_str(value)?;
    let is_space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    Ok(match characters {
        Some(characters) => text.trim_matches(|c| characters.contains(c)).into(),
        None => text.trim_matches(is_space).into(),
    })
}

fn describe(error: Error) -> Failure {
    let detail = error.detail().unwrap_or_default();
    if let Some(message) = detail.strip_prefix(RAISED) {
        return Failure(FsStatus::Refused, message.into());
    }
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let spent = error.kind() == ErrorKind::OutOfFuel;
    let what = match detail {
        "" => error.kind().to_string(),
        detail if spent => detail.into(),
        detail => format!("{}: {detail}", error.kind()),
    };
    Failure(if spent { FsStatus::Budget } else { FsStatus::Invalid }, line + &what)
}

/// {% generation %} marks what the assistant wrote, for training masks; in the text it is only a scope.
fn neutral_generation(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inside = &tag[2..end];
        let left = inside.starts_with(['-', '+']) as usize;
        let right = (inside.len() > left && inside.ends_with(['-', '+'])) as usize;
        let word = match inside[left..inside.len() - right].trim() {
            "generation" => Some(" with generation_ = true "),
            "endgeneration" => Some(" endwith "),
            _ => None,
        };
        match word {
            Some(word) => {
                result.push_str(&tag[..2 + left]);
                result.push_str(word);
                result.push_str(&tag[end - right..end + 2]);
            }
            None => result.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    result.push_str(rest);
    result
}

/// datetime.now().strftime(format): Python hands the format to the C library, and so do we.
fn strftime_now(format: &str) -> Result<String, Error> {
    let refuse = |why: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {why}"));
    if format.len() > 1000 {
        return Err(refuse("the format is too long"));
    }
    let format = std::ffi::CString::new(format).map_err(|_| refuse("a zero byte in the format"))?;
    let mut buffer = vec![0u8; 16 << 10];
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut local: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut local);
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &local)
    };
    buffer.truncate(written);
    String::from_utf8(buffer).map_err(|_| refuse("the result is not UTF-8"))
}
