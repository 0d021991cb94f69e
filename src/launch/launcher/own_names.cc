#include "launch/launcher/own_names.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <unistd.h>

#include <string_view>

namespace flagscale::launch {

std::set<std::string> own_names() {
  std::set<std::string> names;
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) == 0) {
    names.insert(host);
    names.insert(std::string(host).substr(0, std::string_view(host).find('.')));
  }
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return names;
  for (const ifaddrs* one = list; one; one = one->ifa_next) {
    char text[INET6_ADDRSTRLEN] = {};
    if (!one->ifa_addr) continue;
    const int family = one->ifa_addr->sa_family;
    const void* address =
        family == AF_INET
            ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr)
        : family == AF_INET6 ? &reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr
                             : nullptr;
    if (address && inet_ntop(family, address, text, sizeof text)) names.insert(text);
  }
  freeifaddrs(list);
  return names;
}

}  // namespace flagscale::launch
