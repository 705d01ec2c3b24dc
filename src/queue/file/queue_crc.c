/* CRC-32C, eight bytes at a step: the sum over a journal record is the dearest part of writing it. */
#include "queue_journal.h"

#include <pthread.h>

enum { STEP = 8 };
static const uint32_t POLYNOMIAL = 0x82f63b78; /* reflected */

static uint32_t table[STEP][256]; /* [k][b]: the byte b with k zero bytes after it */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;

        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        table[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int k = 1; k < STEP; k++)
            table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 255];
}

static uint32_t step(uint32_t crc, const unsigned char *p)
{
    crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
           table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
}

uint32_t queue_crc(uint32_t crc, struct bytes text)
{
    const unsigned char *p = (const unsigned char *)text.p;
    size_t n = text.n;

    pthread_once(&once, fill_table);
    crc = ~crc;
    for (; n >= STEP; p += STEP, n -= STEP)
        crc = step(crc, p);
    for (; n > 0; p++, n--)
        crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}
