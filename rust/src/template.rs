//! Chat templates as transformers renders them.

use crate::ffi::*;
use crate::python::{python_str, tojson};
use minijinja::value::{Rest, Value};
use minijinja::{filters, Environment, Error, ErrorKind, State};

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
        let template = unsafe { &*handle }.0.get_template("chat").map_err(describe)?;
        Ok(template.render(Value::from_serialize(context)).map_err(describe)?.into_bytes())
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
        out.write_str(&python_str(value)?).map_err(Error::from)
    });
    environment.set_unknown_method_callback(|state, value, method, args| {
        if method == "format" {
            check_format(value)?;
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    environment.add_filter("format", |state: &State, format: &Value, args: Rest<Value>| {
        check_format(format)?;
        filters::format(state, format, args)
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

/// The widths and precisions of a format string: runs of digits.
fn check_format(format: &Value) -> Result<(), Error> {
    let text = format.as_str().unwrap_or_default();
    let wide = |digits: &str| digits.len() > WIDEST.to_string().len();
    if text.split(|c: char| !c.is_ascii_digit()).any(wide) { Err(too_wide()) } else { Ok(()) }
}

/// A filter of minijinja's whose arguments after the first are such numbers.
fn bounded(filter: Value) -> impl Fn(&State, Rest<Value>) -> Result<Value, Error> {
    let wide = |value: &Value| value.as_i64().is_some_and(|number| number > WIDEST);
    move |state, args| {
        for value in args.iter().skip(1) {
            let named = value.is_kwargs() && value.try_iter()?.any(|key| value.get_item(&key).is_ok_and(|it| wide(&it)));
            if wide(value) || named || value.as_i64().is_none() && value.as_usize().is_some() {
                return Err(too_wide());
            }
        }
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
    let status = if error.kind() == ErrorKind::OutOfFuel { FsStatus::Budget } else { FsStatus::Invalid };
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    Failure(status, format!("{line}{}{detail}", error.kind()))
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
