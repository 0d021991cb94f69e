#pragma once
// Memory of the host that stands for tensors of a GPU: addresses for all of them, of which only what is in
// use takes memory. What passes through it in pieces needs no more than one of them.

#include <functional>
#include <memory>
#include <span>
#include <unordered_map>

#include "tensor/tensor.h"

namespace flagscale::train {

// Writes what lies `at` bytes after a begin to `to`.
using MirrorReader = std::function<void(size_t at, std::span<std::byte> to)>;

class HostMirrors {
 public:
  void add(const Tensor& device);
  const Tensor& of(const Tensor& device) const;  // of all that its storage was added with

  // Bytes of one tensor's mirror. Others are what they are: nothing happens to them.
  void fetch(std::span<std::byte> bytes) const;  // from the device
  void put(std::span<std::byte> bytes) const;    // to the device; drops them
  void drop(std::span<std::byte> bytes) const;   // gives their memory back
  // Reads from the device, on any thread. Null where they are in main memory.
  MirrorReader reader(std::span<const std::byte> bytes) const;

 private:
  struct Mirror {
    Tensor device, host;
  };
  Tensor behind(std::span<const std::byte> bytes) const;  // undefined: nothing

  std::unique_ptr<Allocator> memory_ = make_cpu_allocator();
  std::unordered_map<const Storage*, Mirror> mirrors_;
};

}  // namespace flagscale::train
