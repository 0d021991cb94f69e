//! Hugging Face's tokenizers, for every tokenizer.json that our own code does not cover.

use crate::ffi::*;
use std::collections::BTreeMap;
use tokenizers::Tokenizer;
use unicode_normalization_alignments::UnicodeNormalization;

pub struct FsTokenizer(Tokenizer);

/// # Safety
/// json points at size bytes; handle and error are writable.
#[no_mangle]
pub unsafe extern "C" fn fs_tokenizer_new(
    json: *const u8, size: usize, handle: *mut *mut FsTokenizer, error: *mut FsBuffer,
) -> FsStatus {
    guard_new(handle, error, || {
        let mut tokenizer = Tokenizer::from_bytes(unsafe { bytes(json, size) }).map_err(invalid)?;
        tokenizer.with_truncation(None).map_err(invalid)?;
        tokenizer.with_padding(None);
        Ok(FsTokenizer(tokenizer))
    })
}

/// # Safety
/// handle came from fs_tokenizer_new.
#[no_mangle]
pub unsafe extern "C" fn fs_tokenizer_free(handle: *mut FsTokenizer) {
    guard_free(handle);
}

/// *out: the ids, four bytes each.
/// # Safety
/// text points at size bytes; out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_tokenizer_encode(
    handle: *const FsTokenizer, input: *const u8, size: usize, add_special: bool, out: *mut FsBuffer,
) -> FsStatus {
    guard(out, || {
        let encoding = unsafe { &*handle }.0.encode_fast(unsafe { text(input, size) }?, add_special);
        Ok(ids_to_bytes(encoding.map_err(invalid)?.get_ids()))
    })
}

/// *out: the text.
/// # Safety
/// ids points at count ids; out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_tokenizer_decode(
    handle: *const FsTokenizer, ids: *const u32, count: usize, skip_special: bool, out: *mut FsBuffer,
) -> FsStatus {
    guard(out, || {
        let ids = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(ids, count) } };
        Ok(unsafe { &*handle }.0.decode(ids, skip_special).map_err(invalid)?.into_bytes())
    })
}

/// *out: for each token in order of id: id, 1 if special else 0, bytes of its text (four bytes each), the text.
/// # Safety
/// out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_tokenizer_vocab(handle: *const FsTokenizer, out: *mut FsBuffer) -> FsStatus {
    guard(out, || {
        let tokenizer = &unsafe { &*handle }.0;
        let added = tokenizer.get_added_vocabulary();
        let tokens: BTreeMap<u32, String> =
            tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        let mut result = Vec::new();
        for (id, token) in tokens {
            let special = added.is_special_token(&token) as u32;
            result.extend(ids_to_bytes(&[id, special, token.len() as u32]));
            result.extend(token.as_bytes());
        }
        Ok(result)
    })
}

/// *out: the text in normalisation form C, as the tokenizers' NFC normalizer makes it.
/// # Safety
/// input points at size bytes; out is writable.
#[no_mangle]
pub unsafe extern "C" fn fs_nfc(input: *const u8, size: usize, out: *mut FsBuffer) -> FsStatus {
    guard(out, || {
        let normalized: String = unsafe { text(input, size) }?.nfc().map(|(character, _)| character).collect();
        Ok(normalized.into_bytes())
    })
}
