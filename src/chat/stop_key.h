#pragma once

namespace flagscale::chat {

// While it exists, Ctrl-C is a key that is asked for, not the program's end.
class StopKey {
 public:
  StopKey();
  ~StopKey();
  StopKey(const StopKey&) = delete;
  StopKey& operator=(const StopKey&) = delete;

  static bool pressed();
  static bool take();  // and forgets it
};

}  // namespace flagscale::chat
