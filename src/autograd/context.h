#pragma once
// What an op function gets first: where to put its work and, when gradients are wanted, the tape.

#include "autograd/tape.h"
#include "kernel/recorder.h"

namespace flagscale {

struct Context {
  Recorder& recorder;
  Tape* tape = nullptr;  // null: no gradients (evaluation, serving)
};

}  // namespace flagscale
