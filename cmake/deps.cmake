# Packaged libraries, each with its reason in docs/DEPENDENCIES.md.
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBUV REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(LZ4 REQUIRED IMPORTED_TARGET liblz4)
pkg_check_modules(CHECK REQUIRED IMPORTED_TARGET check)

# libraft >= 0.22, with the step API (DESIGN section 2). `./dev deps` builds it into this cache where the distribution's
# is older. LOCKSTEP_DEPS overrides the place.
if(DEFINED ENV{LOCKSTEP_DEPS})
    set(LOCKSTEP_DEPS "$ENV{LOCKSTEP_DEPS}")
else()
    set(LOCKSTEP_DEPS "$ENV{HOME}/.cache/lockstep")
endif()
set(ENV{PKG_CONFIG_PATH} "${LOCKSTEP_DEPS}/raft/lib/pkgconfig:$ENV{PKG_CONFIG_PATH}")
pkg_check_modules(RAFT IMPORTED_TARGET raft)
if(NOT RAFT_FOUND)
    message(FATAL_ERROR "libraft >= 0.22 not found. Run ./dev deps, which installs or builds it.")
endif()
if(RAFT_VERSION VERSION_LESS 0.22)
    message(FATAL_ERROR "libraft ${RAFT_VERSION} found, >= 0.22 needed: older ones commit entries of old terms by "
        "counting and acknowledge unverified log tails, so acknowledged writes get lost. Run ./dev deps.")
endif()
