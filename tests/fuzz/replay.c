/* A main for fuzzers in builds without libFuzzer: runs each file, and each file of each directory, given as argument.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_files;

static int file_run(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t size = 0, capacity = 0;
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    for (;;) {
        if (size == capacity) {
            capacity = capacity == 0 ? 4096 : 2 * capacity;
            data = realloc(data, capacity);
            if (data == NULL)
                abort();
        }
        const size_t n = fread(data + size, 1, capacity - size, file);
        if (n == 0)
            break;
        size += n;
    }
    fclose(file);
    /* A block of exactly this size, so that a read beyond it shows. */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL)
        abort();
    memcpy(exact, data, size);
    fprintf(stderr, "running %s\n", path);
    LLVMFuzzerTestOneInput(exact, size);
    n_files++;
    free(exact);
    free(data);
    return 0;
}

static int directory_run(const char *path, DIR *directory)
{
    int failed = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        failed |= file_run(name);
    }
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        if (directory == NULL) {
            failed |= file_run(argv[i]);
            continue;
        }
        failed |= directory_run(argv[i], directory);
        closedir(directory);
    }
    printf("%u inputs\n", n_files);
    return failed != 0 || n_files == 0 ? 1 : 0;
}
