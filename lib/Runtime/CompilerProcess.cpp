// SPDX-License-Identifier: Apache-2.0
//===- CompilerProcess.cpp - running moe-compile --------------------------===//
#include "moe/Runtime/CompilerProcess.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace llvm;
using namespace moe;

extern char **environ;

namespace {
/// A file descriptor of nameless memory, above the standard three so that
/// dup2 onto those cannot clobber it, even in a host that closed its own.
class AnonymousFile {
public:
  AnonymousFile() {
    int raw = memfd_create("moe-compile", MFD_CLOEXEC);
    if (raw < 0) {
      SmallString<128> path;
      if (sys::fs::createTemporaryFile("moe-compile", "tmp", raw, path))
        return;
      sys::fs::remove(path);
    }
    descriptor = fcntl(raw, F_DUPFD_CLOEXEC, 3);
    close(raw);
  }
  ~AnonymousFile() {
    if (descriptor >= 0)
      close(descriptor);
  }
  AnonymousFile(const AnonymousFile &) = delete;

  bool fill(StringRef bytes) {
    for (size_t at = 0; at < bytes.size();) {
      ssize_t n = pwrite(descriptor, bytes.data() + at, bytes.size() - at, at);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return false;
      at += n;
    }
    return true;
  }

  std::string contents() {
    struct stat status;
    if (fstat(descriptor, &status) != 0)
      return "";
    std::string bytes(status.st_size, '\0');
    for (size_t at = 0; at < bytes.size();) {
      ssize_t n = pread(descriptor, &bytes[at], bytes.size() - at, at);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0) {
        bytes.resize(at);
        break;
      }
      at += n;
    }
    return bytes;
  }

  int descriptor = -1;
};

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

/// How a process ended. A host that reaps all its children leaves us `Unknown`.
struct Ending {
  enum Kind { Exited, Signalled, TimedOut, Unknown } kind;
  int code = 0;
};

Ending waitFor(pid_t pid, double timeoutSeconds) {
  double deadline = now() + timeoutSeconds;
  int handle = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  long pause = 1000 * 1000;
  Ending ending{Ending::Unknown};
  for (;;) {
    int status;
    pid_t result = waitpid(pid, &status, WNOHANG);
    if (result == pid) {
      if (WIFEXITED(status))
        ending = {Ending::Exited, WEXITSTATUS(status)};
      else if (WIFSIGNALED(status))
        ending = {Ending::Signalled, WTERMSIG(status)};
      break;
    }
    if (result < 0 && errno != EINTR) {
      // Someone else reaps, or SIGCHLD is ignored: wait until it is gone.
      if (kill(pid, 0) != 0)
        break;
    }
    double left = deadline - now();
    if (left <= 0) {
      kill(pid, SIGKILL);
      while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
      }
      ending = {Ending::TimedOut};
      break;
    }
    if (handle >= 0) {
      pollfd poll{handle, POLLIN, 0};
      ::poll(&poll, 1, static_cast<int>(std::min(left, 1.0) * 1000) + 1);
    } else {
      timespec time{0, pause};
      nanosleep(&time, nullptr);
      pause = std::min(2 * pause, 10L * 1000 * 1000);
    }
  }
  if (handle >= 0)
    close(handle);
  return ending;
}

/// Starts the compiler on the three descriptors; 0 or an error number.
int spawn(const std::string &compiler, const CompileOptions &options,
          const AnonymousFile &in, const AnonymousFile &out,
          const AnonymousFile &err, pid_t &pid) {
  std::vector<std::string> words = {compiler, "-", "--target=" + options.target,
                                    "-o", "-"};
  for (const std::string &option : options.options)
    words.push_back("--opt=" + option);
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.descriptor, 0);
  posix_spawn_file_actions_adddup2(&actions, out.descriptor, 1);
  posix_spawn_file_actions_adddup2(&actions, err.descriptor, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t none, defaults;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  // An ignored SIGCHLD would pass to the child, which waits for its own.
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGCHLD);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  int error = posix_spawn(&pid, compiler.c_str(), &actions, &attributes,
                          argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

std::string trimmed(StringRef text) {
  constexpr size_t kLimit = 16 * 1024;
  text = text.trim();
  if (text.size() <= kLimit)
    return text.str();
  return (text.take_front(kLimit) + "\n... (" + Twine(text.size() - kLimit) +
          " bytes more)")
      .str();
}
} // namespace

Expected<std::string> moe::findCompiler() {
  if (const char *path = getenv("MOE_MLIR_COMPILER"); path && *path) {
    if (access(path, X_OK) == 0)
      return path;
    return fail(MOE_COMPILER_NOT_FOUND,
                "MOE_MLIR_COMPILER is '" + Twine(path) +
                    "', which cannot be executed: " + strerror(errno) +
                    "; unset it or set it to the path of moe-compile");
  }
  Dl_info info;
  std::string folder;
  if (dladdr(reinterpret_cast<void *>(&findCompiler), &info) &&
      info.dli_fname) {
    SmallString<256> real;
    if (!sys::fs::real_path(info.dli_fname, real))
      folder = sys::path::parent_path(real).str();
  }
  for (const char *place : {"/moe-compile", "/../bin/moe-compile"})
    if (std::string path = folder + place; access(path.c_str(), X_OK) == 0)
      return path;
  return fail(MOE_COMPILER_NOT_FOUND,
              "moe-compile was not found in '" + folder +
                  "', where this library is, nor in its ../bin: install it "
                  "there or set MOE_MLIR_COMPILER to its path");
}

std::string moe::writeReproducer(StringRef input, const CompileOptions &options,
                                 StringRef why) {
  SmallString<128> path;
  if (const char *folder = getenv("MOE_MLIR_REPRODUCER_DIR")) {
    path = folder;
    sys::fs::create_directories(path);
  } else {
    sys::path::system_temp_directory(/*ErasedOnReboot=*/true, path);
  }
  bool bytecode = input.starts_with("ML\xEFR");
  sys::path::append(path, bytecode ? "moe-crash-%%%%%%%%.mlirbc"
                                   : "moe-crash-%%%%%%%%.mlir");
  int descriptor;
  SmallString<128> file;
  constexpr StringLiteral kNone(
      "; no reproducer could be written: set MOE_MLIR_REPRODUCER_DIR to a "
      "folder that can be");
  if (sys::fs::createUniqueFile(path, descriptor, file))
    return kNone.str();
  raw_fd_ostream os(descriptor, /*shouldClose=*/true);
  if (bytecode) {
    os << input;
  } else {
    os << "// moe-compile - --target=" << options.target;
    for (const std::string &option : options.options)
      os << " --opt=" << option;
    os << "\n// " << why << "\n" << input;
    // A file has one resource section; an input with its own keeps it.
    if (!input.contains("{-#"))
      os << "\n{-#\n  external_resources: {\n    mlir_reproducer: {\n"
            "      pipeline: \"builtin.module("
         << (options.target == "cpu"
                 ? "moe-to-cpu"
                 : "moe-to-nvvm{arch=" + options.target + "}")
         << ")\",\n"
         << "      disable_threading: true,\n      verify_each: true\n"
            "    }\n  }\n#-}\n";
  }
  os.close();
  if (os.has_error()) {
    os.clear_error();
    return kNone.str();
  }
  return ("; reproducer: " + file).str();
}

Expected<std::string> moe::runCompiler(StringRef compiler, StringRef input,
                                       const CompileOptions &options) {
  AnonymousFile in, out, err;
  if (in.descriptor < 0 || out.descriptor < 0 || err.descriptor < 0 ||
      !in.fill(input))
    return fail(MOE_COMPILER_NOT_FOUND,
                "no memory or file descriptor for the compiler's input: " +
                    Twine(strerror(errno)));
  double timeout = 600;
  if (const char *value = getenv("MOE_MLIR_COMPILE_TIMEOUT"))
    if (double seconds = atof(value); seconds > 0)
      timeout = seconds;
  pid_t pid;
  if (int error = spawn(compiler.str(), options, in, out, err, pid))
    return fail(MOE_COMPILER_NOT_FOUND,
                "'" + compiler + "' could not be started: " + strerror(error) +
                    "; install it again or set MOE_MLIR_COMPILER");
  Ending ending = waitFor(pid, timeout);
  std::string messages = trimmed(err.contents());
  std::string result = out.contents();

  auto crashed = [&](const Twine &why) {
    std::string text = why.str();
    return fail(MOE_COMPILER_CRASH,
                text + writeReproducer(input, options, text) +
                    (messages.empty() ? "" : "\n" + messages));
  };
  switch (ending.kind) {
  case Ending::TimedOut:
    return crashed("the compiler ran for more than " + Twine(int(timeout)) +
                   " s and was ended; MOE_MLIR_COMPILE_TIMEOUT sets more");
  case Ending::Signalled:
    return crashed("the compiler was ended by signal " + Twine(ending.code) +
                   " (" + strsignal(ending.code) + ")");
  case Ending::Exited:
    if (ending.code == 0)
      return result;
    // moe-compile survives a crash of the compiler in it, and says so.
    if (ending.code == kCompilerCrashExit)
      return fail(MOE_COMPILER_CRASH, messages);
    break;
  case Ending::Unknown:
    if (!result.empty())
      return result;
    break;
  }
  return fail(MOE_COMPILE_ERROR, messages.empty()
                                     ? "the compiler failed with exit code " +
                                           std::to_string(ending.code) +
                                           " and no message"
                                     : messages);
}
