#include "chat/stop_key.h"

#include <csignal>

namespace flagscale::chat {

namespace {
volatile std::sig_atomic_t key_pressed = 0;
struct sigaction before;
}  // namespace

StopKey::StopKey() {
  struct sigaction action{};
  action.sa_handler = [](int) { key_pressed = 1; };
  action.sa_flags = SA_RESTART;
  key_pressed = 0;
  sigaction(SIGINT, &action, &before);
}
StopKey::~StopKey() { sigaction(SIGINT, &before, nullptr); }

bool StopKey::pressed() { return key_pressed != 0; }

bool StopKey::take() {
  const bool was = pressed();
  key_pressed = 0;
  return was;
}

}  // namespace flagscale::chat
