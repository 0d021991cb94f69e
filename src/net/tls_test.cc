// TLS end to end, with a certificate made here.

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "net/client.h"
#include "net/server.h"

namespace flagscale::net {
namespace {

namespace fs = std::filesystem;

// Writes a self-signed certificate of 127.0.0.1 and its key.
void make_certificate(const std::string& certificate, const std::string& key) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> pair(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> x509(X509_new(), &X509_free);
  X509_set_version(x509.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(x509.get()), 3600);
  X509_set_pubkey(x509.get(), pair.get());
  X509_NAME* name = X509_get_subject_name(x509.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1,
                             0);
  X509_set_issuer_name(x509.get(), name);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
  X509_add_ext(x509.get(), extension, -1);
  X509_EXTENSION_free(extension);
  X509_sign(x509.get(), pair.get(), EVP_sha256());
  std::FILE* file = std::fopen(certificate.c_str(), "w");
  PEM_write_X509(file, x509.get());
  std::fclose(file);
  file = std::fopen(key.c_str(), "w");
  PEM_write_PrivateKey(file, pair.get(), nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
}

struct Tls : testing::Test {
  void SetUp() override {
    folder = fs::temp_directory_path() / ("flagscale_tls_" + std::to_string(getpid()));
    fs::create_directories(folder);
    options.certificate = folder / "cert.pem";
    options.key = folder / "key.pem";
    make_certificate(options.certificate, options.key);
  }
  void TearDown() override { fs::remove_all(folder); }
  fs::path folder;
  ServerOptions options;
  Handler handler = [](const std::shared_ptr<Exchange>& exchange) {
    exchange->respond({200, "text/plain", exchange->request().body});
  };
};

TEST_F(Tls, CarriesRequests) {
  Server server(options, handler);
  ClientOptions trusting;
  trusting.ca_file = options.certificate;
  Client client({true, "127.0.0.1", server.port(), "/"}, trusting);
  for (const size_t size : {size_t{1}, size_t{1} << 20})
    EXPECT_EQ(client.send("POST", "/", std::string(size, 'x')).body.size(), size);
}

TEST_F(Tls, StrangersAreNotTrusted) {
  Server server(options, handler);
  EXPECT_THROW(Client({true, "127.0.0.1", server.port(), "/"}).send("GET", "/"), Error);
  EXPECT_THROW(Client({false, "127.0.0.1", server.port(), "/"}).send("GET", "/"),
               Error);  // plain HTTP to a TLS port
}

TEST_F(Tls, BadFilesAreNamed) {
  ServerOptions bad = options;
  bad.key.clear();
  EXPECT_THROW(Server(bad, handler), Error);
  bad.key = folder / "none.pem";
  EXPECT_THROW(Server(bad, handler), Error);
  bad.key = options.certificate;
  EXPECT_THROW(Server(bad, handler), Error);
}

}  // namespace
}  // namespace flagscale::net
