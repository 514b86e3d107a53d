#include "cmd/lockstepd/keyslot.h"

#include <string.h>

/* Half a byte at a time: a 16-entry table does for keys, and can be checked by eye (entry i is i * 0x1021). */
uint16_t crc16(const void *data, size_t len)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                       0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    const uint8_t *bytes = data;
    unsigned crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc = (crc << 4 & 0xffff) ^ table[(crc >> 12 ^ bytes[i] >> 4) & 15];
        crc = (crc << 4 & 0xffff) ^ table[(crc >> 12 ^ bytes[i]) & 15];
    }
    return (uint16_t)crc;
}

unsigned key_slot(const void *key, size_t len)
{
    const char *text = key;
    const char *open = len > 0 ? memchr(text, '{', len) : NULL;
    if (open != NULL) {
        size_t rest = len - (size_t)(open - text) - 1;
        const char *close = rest > 0 ? memchr(open + 1, '}', rest) : NULL;
        if (close != NULL && close != open + 1) {
            return crc16(open + 1, (size_t)(close - open) - 1) % KEY_SLOTS;
        }
    }
    return crc16(text, len) % KEY_SLOTS;
}
