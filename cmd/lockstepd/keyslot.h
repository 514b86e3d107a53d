/* Redis Cluster's hash slots. Pure. */
#ifndef LOCKSTEP_KEYSLOT_H
#define LOCKSTEP_KEYSLOT_H

#include <stddef.h>
#include <stdint.h>

#define KEY_SLOTS 16384u

/* CRC16 (XMODEM: polynomial 0x1021, initial value 0), as the Redis Cluster specification, appendix A, has it. */
uint16_t crc16(const void *data, size_t len);
/* The slot of a key: of what stands between the first { and the next }, if that is not empty. */
unsigned key_slot(const void *key, size_t len);

#endif
