# The build refuses libraft 0.15 and says why. Run as: cmake -DSOURCE=DIR -DWORK=DIR -P refuses_old_raft.cmake
file(REMOVE_RECURSE ${WORK})
file(WRITE ${WORK}/deps/raft/lib/pkgconfig/raft.pc
    "Name: raft\nDescription: an old one\nVersion: 0.15.0\nLibs: -lraft\nCflags:\n")
set(ENV{LOCKSTEP_DEPS} ${WORK}/deps)
execute_process(COMMAND ${CMAKE_COMMAND} -G Ninja -S ${SOURCE} -B ${WORK}/build
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
    message(FATAL_ERROR "the build accepted libraft 0.15.0")
endif()
string(REGEX REPLACE "[ \n]+" " " output "${output}")
if(NOT output MATCHES "libraft 0.15.0 found, >= 0.22 needed: .*acknowledged writes get lost. Run ./dev deps")
    message(FATAL_ERROR "the build refused libraft 0.15.0, but not with the reason:\n${output}")
endif()
