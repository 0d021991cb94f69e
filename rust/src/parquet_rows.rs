//! Rows of a Parquet file as JSON lines, so that they are read as JSON lines are. Nothing is written.

use crate::ffi::*;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::record::reader::RowIter;
use parquet::record::{Field, List, Map, Row};
use serde_json::{Map as Object, Number, Value};
use std::cell::Cell;
use std::fs::File;
use std::rc::Rc;

pub struct FsRows {
    path: String,
    names: String,
    rows: RowIter<'static>,
    next: u64, // the row that comes next, from 1
}

fn open(path: &str) -> Outcome<SerializedFileReader<File>> {
    SerializedFileReader::new(File::open(path).map_err(invalid)?).map_err(invalid)
}

/// The rows of the row group that holds row `first` (from 0) and of those after it; earlier groups are not read. Only the
/// named columns where names are given (parted by newlines) and the file has them.
fn reader(path: &str, names: &str, first: u64) -> Outcome<FsRows> {
    let passed = Rc::new(Cell::new(0));
    let (count, mut reached) = (passed.clone(), false);
    let later = ReadOptionsBuilder::new().with_predicate(Box::new(move |group, _| {
        let end = count.get() + group.num_rows().max(0) as u64;
        reached = reached || end > first;
        if !reached {
            count.set(end);
        }
        reached
    }));
    let file = File::open(path).map_err(invalid)?;
    let file = SerializedFileReader::new_with_options(file, later.build()).map_err(invalid)?;
    let schema = file.metadata().file_metadata().schema();
    let wanted: Vec<_> = schema.get_fields().iter().filter(|field| names.lines().any(|n| n == field.name())).cloned().collect();
    let projection = if wanted.is_empty() {
        None
    } else {
        let group = parquet::schema::types::Type::group_type_builder(schema.name()).with_fields(wanted);
        Some(group.build().map_err(invalid)?)
    };
    let rows = RowIter::from_file_into(Box::new(file)).project(projection).map_err(invalid)?;
    Ok(FsRows { path: path.into(), names: names.into(), rows, next: passed.get() + 1 })
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Why is said with the column's path.
fn json(field: &Field, path: &str) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(v) => Value::Bool(*v),
        Field::Byte(v) => Value::from(*v),
        Field::Short(v) => Value::from(*v),
        Field::Int(v) => Value::from(*v),
        Field::Long(v) => Value::from(*v),
        Field::UByte(v) => Value::from(*v),
        Field::UShort(v) => Value::from(*v),
        Field::UInt(v) => Value::from(*v),
        Field::ULong(v) => Value::from(*v),
        Field::Float(v) => number(*v as f64),
        Field::Double(v) => number(*v),
        Field::Str(v) => Value::from(v.as_str()),
        Field::Bytes(v) => match std::str::from_utf8(v.data()) {
            Ok(text) => Value::from(text),
            Err(_) => return Err(format!("column {path} holds bytes that are not UTF-8 text")),
        },
        Field::Group(row) => object(row, path)?,
        Field::ListInternal(list) => Value::Array(elements(list, path)?),
        Field::MapInternal(map) => entries(map, path)?,
        other => Value::from(other.to_string()), // dates, times, decimals
    })
}

/// A field that is null is left out: a struct has the same fields in every row, a message does not.
fn object(row: &Row, path: &str) -> Result<Value, String> {
    let mut result = Object::new();
    for (name, field) in row.get_column_iter().filter(|(_, field)| !matches!(field, Field::Null)) {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        result.insert(name.clone(), json(field, &below)?);
    }
    Ok(Value::Object(result))
}

fn elements(list: &List, path: &str) -> Result<Vec<Value>, String> {
    list.elements().iter().map(|element| json(element, path)).collect()
}

fn entries(map: &Map, path: &str) -> Result<Value, String> {
    let mut result = Object::new();
    for (key, value) in map.entries() {
        let name = match key {
            Field::Str(text) => text.clone(),
            other => other.to_string(),
        };
        result.insert(name, json(value, path)?);
    }
    Ok(Value::Object(result))
}

/// # Safety
/// path and names point at their sizes of bytes; handle and error are writable.
#[no_mangle]
pub unsafe extern "C" fn fs_rows_open(
    path: *const u8, path_size: usize, names: *const u8, names_size: usize, handle: *mut *mut FsRows,
    error: *mut FsBuffer,
) -> FsStatus {
    guard_new(handle, error, || reader(unsafe { text(path, path_size) }?, unsafe { text(names, names_size) }?, 0))
}

/// # Safety
/// handle came from fs_rows_open.
#[no_mangle]
pub unsafe extern "C" fn fs_rows_free(handle: *mut FsRows) {
    guard_free(handle);
}

/// *out: the names of the columns, a line each.
/// # Safety
/// path points at size bytes; out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_rows_columns(path: *const u8, size: usize, out: *mut FsBuffer) -> FsStatus {
    guard(out, || {
        let file = open(unsafe { text(path, size) }?)?;
        let fields = file.metadata().file_metadata().schema().get_fields().to_vec();
        Ok(fields.iter().map(|field| format!("{}\n", field.name())).collect::<String>().into_bytes())
    })
}

/// Passes over rows, whole row groups without reading them.
/// # Safety
/// handle came from fs_rows_open; error is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_rows_skip(handle: *mut FsRows, count: u64, error: *mut FsBuffer) -> FsStatus {
    guard(error, || {
        let rows = unsafe { &mut *handle };
        let wanted = rows.next + count;
        *rows = reader(&rows.path, &rows.names, wanted - 1)?;
        while rows.next < wanted {
            if let Some(Err(error)) = rows.rows.next() {
                return Err(invalid(format!("row {}: {error}", rows.next)));
            }
            rows.next += 1;
        }
        Ok(Vec::new())
    })
}

/// *out: the next rows, a JSON object a line, until there are at least `least` bytes; nothing at the end.
/// # Safety
/// handle came from fs_rows_open; out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_rows_next(handle: *mut FsRows, least: usize, out: *mut FsBuffer) -> FsStatus {
    guard(out, || {
        let rows = unsafe { &mut *handle };
        let mut lines = Vec::new();
        while lines.len() < least {
            let Some(row) = rows.rows.next() else { break };
            let at = |why: String| invalid(format!("row {}: {why}", rows.next));
            let value = object(&row.map_err(|error| at(error.to_string()))?, "").map_err(at)?;
            serde_json::to_writer(&mut lines, &value).map_err(invalid)?;
            lines.push(b'\n');
            rows.next += 1;
        }
        Ok(lines)
    })
}
