#pragma once
// Bytes to and from one peer, plain or through TLS, on the thread of its loop.

#include <functional>
#include <memory>
#include <string>

namespace flagscale::net {

// Everything is called, and calls back, on the loop's thread. At most one read and one write are under way.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual void handshake(std::function<void(bool ok)> done) = 0;
  // bytes == 0: the peer has gone or the transport was closed.
  virtual void read(char* data, size_t size, std::function<void(size_t bytes)> done) = 0;
  // All of `data`, which stays valid until then. progress: after each part that the peer took.
  virtual void write(const std::string& data, std::function<void()> progress,
                     std::function<void(bool ok)> done) = 0;
  virtual void end_writing() = 0;       // the peer sees the end of what we send; reading goes on
  virtual void close() = 0;             // what is under way ends with a failure
  virtual bool peer_ended() const = 0;  // the peer has ended, whatever of it is unread; without reading
  virtual std::string remote() const = 0;
};

// A thread that runs connections.
class Loop {
 public:
  virtual ~Loop() = default;
  virtual void post(std::function<void()> work) = 0;  // from any thread
  virtual bool here() const = 0;                      // is this the loop's thread?
};

}  // namespace flagscale::net
