#pragma once
// Ctrl-C, SIGTERM and the terminal's end (SIGHUP, unless nohup has it ignored) ask for a clean stop: long
// loops look at interrupted() and leave what is done in order. A second signal ends the process at once;
// SIGHUP does not, since a shell and the kernel both send it.

namespace flagscale {

void install_interrupt_handler();
bool interrupted();
void throw_if_interrupted();  // Error{kInterrupted}

}  // namespace flagscale
