#include "launch/agent/symbols.h"

#include <cxxabi.h>
#include <elf.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string_view>
#include <vector>

namespace flagscale::launch {

namespace {

constexpr uint64_t kLargestTable = uint64_t{1} << 30;

struct FunctionSymbol {
  uint64_t begin = 0, size = 0;
  uint32_t name = 0;  // in the table of strings
};

struct SymbolTable {
  std::vector<FunctionSymbol> functions;  // by address
  std::vector<char> names;                // ends with a 0
};

// `count` values at a place of the file; none where it is shorter.
template <class T>
std::vector<T> values_at(std::ifstream& file, uint64_t offset, uint64_t count) {
  if (count == 0 || count > kLargestTable / sizeof(T)) return {};
  std::vector<T> values(count);
  file.clear();
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T)));
  return file ? values : std::vector<T>{};
}

SymbolTable read_symbols(const std::string& program) {
  SymbolTable table;
  std::ifstream file(program, std::ios::binary);
  const auto head = values_at<Elf64_Ehdr>(file, 0, 1);
  if (head.empty() || std::memcmp(head[0].e_ident, ELFMAG, SELFMAG) != 0) return table;
  const auto sections = values_at<Elf64_Shdr>(file, head[0].e_shoff, head[0].e_shnum);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const Elf64_Shdr& names = sections[section.sh_link];
    table.names = values_at<char>(file, names.sh_offset, names.sh_size);
    table.names.push_back('\0');
    for (const Elf64_Sym& symbol :
         values_at<Elf64_Sym>(file, section.sh_offset, section.sh_size / sizeof(Elf64_Sym)))
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value != 0 &&
          symbol.st_name < table.names.size())
        table.functions.push_back({symbol.st_value, symbol.st_size, symbol.st_name});
  }
  std::sort(table.functions.begin(), table.functions.end(),
            [](const FunctionSymbol& a, const FunctionSymbol& b) { return a.begin < b.begin; });
  return table;
}

std::string readable(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 && name ? name.get() : mangled;
}

std::string function_at(const SymbolTable& table, uint64_t address) {
  auto after = std::upper_bound(table.functions.begin(), table.functions.end(), address,
                                [](uint64_t at, const FunctionSymbol& f) { return at < f.begin; });
  if (after == table.functions.begin()) return "";
  const FunctionSymbol& function = *--after;
  if (address - function.begin > function.size) return "";
  return readable(table.names.data() + function.name);
}

}  // namespace

std::string with_function_names(const std::string& stacks) {
  std::map<std::string, SymbolTable> tables;
  std::string named;
  std::istringstream lines(stacks);
  for (std::string line; std::getline(lines, line); named += line + '\n') {
    const size_t at = line.find("(+0x");
    if (at == std::string::npos || !line.starts_with('/')) continue;
    uint64_t address = 0;
    std::from_chars(line.data() + at + 4, line.data() + line.size(), address, 16);
    const std::string program = line.substr(0, at);
    const auto [table, fresh] = tables.try_emplace(program);
    if (fresh) table->second = read_symbols(program);
    if (const std::string function = function_at(table->second, address); !function.empty())
      line += " " + function;
  }
  return named;
}

}  // namespace flagscale::launch
