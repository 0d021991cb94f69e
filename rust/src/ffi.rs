//! Buffers, status codes and the guard that every entry goes through.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

#[repr(C)]
pub struct FsBuffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl From<Vec<u8>> for FsBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        FsBuffer { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FsStatus {
    Ok = 0,
    Invalid = 1,  // what was handed in is not what it should be
    Refused = 2,  // a template's own raise_exception
    Budget = 3,   // too much work, too deep, too large
    Panic = 4,    // a bug in Rust code
}

pub struct Failure(pub FsStatus, pub String);
pub type Outcome<T> = Result<T, Failure>;

pub fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure(FsStatus::Invalid, error.to_string())
}

/// Runs body; its result or its error's text goes to *out.
pub fn guard(out: *mut FsBuffer, body: impl FnOnce() -> Outcome<Vec<u8>>) -> FsStatus {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let (status, bytes) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(bytes)) => (FsStatus::Ok, bytes),
        Ok(Err(Failure(status, message))) => (status, message.into_bytes()),
        Err(payload) => (FsStatus::Panic, panic_text(&*payload).into_bytes()),
    };
    unsafe { out.write(bytes.into()) };
    status
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".into())
}

/// The same for constructors: *handle is set to a boxed value, or null.
pub fn guard_new<T>(handle: *mut *mut T, error: *mut FsBuffer, body: impl FnOnce() -> Outcome<T>) -> FsStatus {
    unsafe { handle.write(std::ptr::null_mut()) };
    guard(error, || {
        let value = Box::into_raw(Box::new(body()?));
        unsafe { handle.write(value) };
        Ok(Vec::new())
    })
}

pub fn guard_free<T>(handle: *mut T) {
    if !handle.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
    }
}

pub unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } }
}

pub unsafe fn text<'a>(data: *const u8, size: usize) -> Outcome<&'a str> {
    std::str::from_utf8(unsafe { bytes(data, size) }).map_err(|error| invalid(format!("not UTF-8: {error}")))
}

pub fn ids_to_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_ne_bytes()).collect()
}

/// # Safety
/// buffer came from this library and is not used afterwards.
#[no_mangle]
pub unsafe extern "C" fn fs_buffer_free(buffer: FsBuffer) {
    if !buffer.data.is_null() {
        drop(unsafe { Vec::from_raw_parts(buffer.data, buffer.size, buffer.capacity) });
    }
}
