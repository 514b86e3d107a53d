#include "consensus/env.h"

#include <errno.h>

enum env_status env_status_of_errno(int error)
{
    switch (error) {
    case 0:
        return ENV_OK;
    case ENOENT:
        return ENV_NOT_FOUND;
    case EEXIST:
        return ENV_EXISTS;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ENV_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return ENV_DENIED;
    case ENOMEM:
        return ENV_NO_MEMORY;
    default:
        return ENV_IO;
    }
}
