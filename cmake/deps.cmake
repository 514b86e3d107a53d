# Packaged libraries, each with its reason in docs/DEPENDENCIES.md.
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBUV REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(LZ4 REQUIRED IMPORTED_TARGET liblz4)
pkg_check_modules(CHECK REQUIRED IMPORTED_TARGET check)

# libraft >= 0.22, for the step API. `./dev deps` builds it into this cache where the distribution's is older, once as
# packaged and once with its assertions on. LOCKSTEP_DEPS overrides the place.
if(DEFINED ENV{LOCKSTEP_DEPS})
    set(LOCKSTEP_DEPS "$ENV{LOCKSTEP_DEPS}")
else()
    set(LOCKSTEP_DEPS "$ENV{HOME}/.cache/lockstep")
endif()

# lockstep_find_raft(PREFIX DIRECTORY): pkg_check_modules for raft, looking in DIRECTORY first.
macro(lockstep_find_raft prefix directory)
    set(saved_path "$ENV{PKG_CONFIG_PATH}")
    set(ENV{PKG_CONFIG_PATH} "${directory}/lib/pkgconfig:${saved_path}")
    # The answer is not kept from an earlier run: the installed library may have changed since.
    unset(__pkg_config_checked_${prefix} CACHE)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET raft)
    set(ENV{PKG_CONFIG_PATH} "${saved_path}")
endmacro()

lockstep_find_raft(RAFT "${LOCKSTEP_DEPS}/raft")
if(NOT RAFT_FOUND)
    message(FATAL_ERROR "libraft >= 0.22 not found. Run ./dev deps, which installs or builds it.")
endif()
if(RAFT_VERSION VERSION_LESS 0.22)
    message(FATAL_ERROR "libraft ${RAFT_VERSION} found, >= 0.22 needed: older ones commit entries of old terms by "
        "counting and acknowledge unverified log tails, so acknowledged writes get lost. Run ./dev deps.")
endif()

lockstep_find_raft(RAFT_ASSERT "${LOCKSTEP_DEPS}/raft-assert")
if(NOT RAFT_ASSERT_FOUND OR RAFT_ASSERT_VERSION VERSION_LESS 0.22)
    message(FATAL_ERROR "libraft with its assertions on, for the tests, not found. Run ./dev deps, which builds it.")
endif()

# Link lockstep_raft: a target whose LOCKSTEP_RAFT_ASSERT property is on gets the one with assertions. The packaged one
# has none, so a caller that breaks its contract would go unnoticed.
define_property(TARGET PROPERTY LOCKSTEP_RAFT_ASSERT INITIALIZE_FROM_VARIABLE LOCKSTEP_RAFT_ASSERT
    BRIEF_DOCS "Use the libraft that checks its contract")
add_library(lockstep_raft INTERFACE)
set(asserting "$<BOOL:$<TARGET_PROPERTY:LOCKSTEP_RAFT_ASSERT>>")
target_include_directories(lockstep_raft SYSTEM INTERFACE ${RAFT_INCLUDE_DIRS})
target_link_libraries(lockstep_raft INTERFACE "$<IF:${asserting},PkgConfig::RAFT_ASSERT,PkgConfig::RAFT>")
message(STATUS "libraft ${RAFT_VERSION} (tests: ${RAFT_ASSERT_VERSION} with assertions)")
