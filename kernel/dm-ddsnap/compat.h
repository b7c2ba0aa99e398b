/* SPDX-License-Identifier: GPL-2.0 */
/* Differences between kernels, as the Kbuild file finds them in the headers. */
#ifndef DM_DDSNAP_COMPAT_H
#define DM_DDSNAP_COMPAT_H

#include <linux/blkdev.h>

#ifndef DDS_HAVE_BLK_OPEN	/* before 6.5 */
#define BLK_OPEN_READ	FMODE_READ
#define BLK_OPEN_WRITE	FMODE_WRITE
#endif

#endif
