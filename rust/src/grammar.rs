//! Constrained decoding: which tokens may come next under a JSON schema, a regular expression or a Lark grammar.

use crate::ffi::*;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use std::sync::Arc;

const MAX_GRAMMAR: usize = 512 << 10;

/// A chain of rules or references is followed by recursion, a frame of some kilobytes a link, and a grammar of
/// MAX_GRAMMAR bytes has some 25,000 links. Memory is taken as far as it is used.
const COMPILER_STACK: usize = 512 << 20;

/// What compiling a grammar and one step under it may cost, so that a client's grammar cannot hold a thread: about 20 ms
/// to compile, 20 ms a mask, tens of MB. llguidance counts; speeds are its own figures.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 500_000, // 50k a ms
        step_lexer_fuel: 200_000,    // 14k a ms
        step_max_items: 50_000,      // 20k a ms
        max_lexer_states: 20_000,    // 2 kB each
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

fn on_deep_stack<T: Send>(body: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(COMPILER_STACK).spawn_scoped(scope, body);
        let thread = thread.map_err(|why| Failure(FsStatus::Budget, format!("no thread compiles it: {why}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub struct FsGrammarVocab {
    factory: ParserFactory,
    size: u32,
}
pub struct FsGrammar {
    matcher: Matcher,
    size: u32,
}

/// blob: for each of count tokens its bytes (offsets[i] to offsets[i + 1]); special tokens start with a byte 0xff.
/// # Safety
/// offsets points at count + 1 entries into blob; handle and error are writable.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_vocab_new(
    blob: *const u8, offsets: *const u32, count: u32, eos: u32, handle: *mut *mut FsGrammarVocab,
    error: *mut FsBuffer,
) -> FsStatus {
    guard_new(handle, error, || {
        if eos >= count {
            return Err(invalid(format!("the end token is {eos}, beyond the {count} tokens")));
        }
        let offsets = unsafe { std::slice::from_raw_parts(offsets, count as usize + 1) };
        let blob = unsafe { bytes(blob, offsets[count as usize] as usize) };
        let words: Vec<Vec<u8>> =
            offsets.windows(2).map(|pair| blob[pair[0] as usize..pair[1] as usize].to_vec()).collect();
        let trie = TokTrie::from(&TokRxInfo::new(count, eos), &words);
        let environment: llguidance::toktrie::TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(invalid)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(FsGrammarVocab { factory, size: count })
    })
}

/// # Safety
/// handle came from fs_grammar_vocab_new.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_vocab_free(handle: *mut FsGrammarVocab) {
    guard_free(handle);
}

/// kind: "json_object" (grammar is not looked at), "json_schema", "regex" or "lark".
/// # Safety
/// kind and grammar point at their sizes; handle and error are writable.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_new(
    vocab: *const FsGrammarVocab, kind: *const u8, kind_size: usize, grammar: *const u8, grammar_size: usize,
    handle: *mut *mut FsGrammar, error: *mut FsBuffer,
) -> FsStatus {
    guard_new(handle, error, || {
        if grammar_size > MAX_GRAMMAR {
            return Err(Failure(FsStatus::Budget, format!("{grammar_size} bytes: at most {MAX_GRAMMAR}")));
        }
        let (kind, grammar) = unsafe { (text(kind, kind_size)?, text(grammar, grammar_size)?) };
        let vocab = unsafe { &*vocab };
        on_deep_stack(|| {
            let grammar = TopLevelGrammar::from_tagged_str(kind, grammar).map_err(invalid)?;
            let parser = vocab.factory.create_parser(grammar).map_err(invalid)?;
            Ok(FsGrammar { matcher: Matcher::new(Ok(parser)), size: vocab.size })
        })
    })
}

/// Another one in the same state, that shares nothing with it: each may be used on a thread of its own.
/// # Safety
/// handle came from fs_grammar_new; one thread at a time.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_clone(
    handle: *const FsGrammar, clone: *mut *mut FsGrammar, error: *mut FsBuffer,
) -> FsStatus {
    guard_new(clone, error, || {
        let grammar = unsafe { &*handle };
        Ok(FsGrammar { matcher: grammar.matcher.deep_clone(), size: grammar.size })
    })
}

/// # Safety
/// handle came from fs_grammar_new.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_free(handle: *mut FsGrammar) {
    guard_free(handle);
}

/// words: a bit for each token, lowest first: those that may come next. Only the end token where nothing else may.
/// # Safety
/// words has room for count; error is writable; one thread at a time.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_mask(
    handle: *mut FsGrammar, words: *mut u32, count: usize, error: *mut FsBuffer,
) -> FsStatus {
    guard(error, || {
        let mask = unsafe { &mut *handle }.matcher.compute_mask_or_eos().map_err(invalid)?;
        let mask = mask.as_slice();
        let out = unsafe { std::slice::from_raw_parts_mut(words, count) };
        let both = mask.len().min(count);
        out[..both].copy_from_slice(&mask[..both]);
        out[both..].fill(0);
        Ok(Vec::new())
    })
}

/// Goes on with a token that the mask allowed. *ended: nothing but the end may follow.
/// # Safety
/// ended and error are writable; one thread at a time.
#[no_mangle]
pub unsafe extern "C" fn fs_grammar_accept(
    handle: *mut FsGrammar, token: u32, ended: *mut bool, error: *mut FsBuffer,
) -> FsStatus {
    guard(error, || {
        let grammar = unsafe { &mut *handle };
        if token >= grammar.size {
            return Err(invalid(format!("token {token} is beyond the {} tokens", grammar.size)));
        }
        grammar.matcher.consume_token(token).map_err(invalid)?;
        unsafe { ended.write(grammar.matcher.is_stopped()) };
        Ok(Vec::new())
    })
}
