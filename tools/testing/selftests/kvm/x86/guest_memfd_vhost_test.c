// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test vhost, whose workers read and write guest memory for a device of the
 * kernel's: rings and buffers that are private are out of their reach, and the
 * device goes on when they are shared again.
 *
 * The device is a vsock, as it needs nothing else on the host.  Its driver is this
 * program: it has shared memory just as the guest has it.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define VHOST_PATH	"/dev/vhost-vsock"

#define GUEST_CID	4711
#define HOST_PORT	6

/* Where in the guest_memfd everything is, in pages. */
#define RX_RING		0
#define TX_RING		1
#define TX_HEADER	2
#define TX_DATA		3
#define RX_BUFFERS	4

#define RING_SIZE	16
#define NR_RX_BUFFERS	8

/* A packet is small, and has two descriptors. */
#define DATA_SIZE	64

#define WAIT_SECONDS	10

struct queue {
	struct vring vring;
	u16 last_used;
	int kick;
	int call;
	int err;
};

FIXTURE(vhost) {
	struct gmem_vm gmem;
	struct queue rx;
	struct queue tx;
	int listener;
	int vhost;
	int sock;
};

static void wait_for(int fd, const char *what)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	TEST_ASSERT(poll(&poll_fd, 1, WAIT_SECONDS * 1000) == 1, "Waited too long for %s", what);
}

static void wait_for_event(int fd, const char *what)
{
	u64 val;

	wait_for(fd, what);
	TEST_ASSERT_EQ(read(fd, &val, sizeof(val)), sizeof(val));
}

static bool has_event(int fd)
{
	u64 val;

	return read(fd, &val, sizeof(val)) == sizeof(val);
}

static void kick(struct queue *q)
{
	const u64 val = 1;

	TEST_ASSERT_EQ(write(q->kick, &val, sizeof(val)), sizeof(val));
}

/* Without a kick, i.e. nobody looks at it yet. */
static void add_avail(struct queue *q, u16 head)
{
	q->vring.avail->ring[q->vring.avail->idx % RING_SIZE] = head;
	__sync_synchronize();
	WRITE_ONCE(q->vring.avail->idx, q->vring.avail->idx + 1);
	__sync_synchronize();
}

/* Returns what the device has used next, and is done with. */
static struct vring_used_elem get_used(struct queue *q)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (READ_ONCE(q->vring.used->idx) == q->last_used) {
		TEST_ASSERT(timespec_elapsed(start).tv_sec < WAIT_SECONDS,
			    "The device doesn't use its ring");
		sched_yield();
	}
	__sync_synchronize();
	return q->vring.used->ring[q->last_used++ % RING_SIZE];
}

static void vhost_ioctl(int vhost, unsigned long cmd, const void *arg)
{
	TEST_ASSERT(!ioctl(vhost, cmd, arg), "ioctl 0x%lx failed, errno %d", cmd, errno);
}

static int set_eventfd(int vhost, unsigned long cmd, int index)
{
	struct vhost_vring_file file = {
		.index = index,
		.fd = eventfd(0, EFD_NONBLOCK),
	};

	TEST_ASSERT(file.fd >= 0, "eventfd() failed, errno %d", errno);
	vhost_ioctl(vhost, cmd, &file);
	return file.fd;
}

static void setup_queue(FIXTURE_DATA(vhost) * self, struct queue *q, int index, int page)
{
	void *ring = page_hva(self->gmem.mem, page);
	struct vhost_vring_state num = { index, RING_SIZE };
	struct vhost_vring_state base = { index, 0 };
	struct vhost_vring_addr addr = { index };

	TEST_ASSERT(vring_size(RING_SIZE, 64) <= PAGE_SIZE, "The ring is too large");
	vring_init(&q->vring, RING_SIZE, ring, 64);
	addr.desc_user_addr = (u64)q->vring.desc;
	addr.avail_user_addr = (u64)q->vring.avail;
	addr.used_user_addr = (u64)q->vring.used;
	vhost_ioctl(self->vhost, VHOST_SET_VRING_NUM, &num);
	vhost_ioctl(self->vhost, VHOST_SET_VRING_BASE, &base);
	vhost_ioctl(self->vhost, VHOST_SET_VRING_ADDR, &addr);

	q->kick = set_eventfd(self->vhost, VHOST_SET_VRING_KICK, index);
	q->call = set_eventfd(self->vhost, VHOST_SET_VRING_CALL, index);
	q->err = set_eventfd(self->vhost, VHOST_SET_VRING_ERR, index);
}

static void free_queue(struct queue *q)
{
	kvm_close(q->kick);
	kvm_close(q->call);
	kvm_close(q->err);
}

/* Offer a buffer of a page to the device. */
static void add_rx_buffer(FIXTURE_DATA(vhost) * self, int i)
{
	self->rx.vring.desc[i] = (struct vring_desc) {
		.addr = page_gpa(RX_BUFFERS + i),
		.len = PAGE_SIZE,
		.flags = VRING_DESC_F_WRITE,
	};
	add_avail(&self->rx, i);
}

/* Returns the packet that the device has received. */
static struct virtio_vsock_hdr *receive(FIXTURE_DATA(vhost) * self)
{
	struct vring_used_elem used = get_used(&self->rx);
	struct virtio_vsock_hdr *hdr;

	TEST_ASSERT(used.id < NR_RX_BUFFERS, "Unknown buffer %u", used.id);
	hdr = (void *)page_hva(self->gmem.mem, RX_BUFFERS + used.id);
	TEST_ASSERT_EQ(used.len, sizeof(*hdr) + hdr->len);
	TEST_ASSERT_EQ(hdr->dst_cid, GUEST_CID);

	/* It may be used again, the caller is going to be quick enough. */
	add_rx_buffer(self, used.id);
	return hdr;
}

/* Have a packet with @val for data ready for the device, and don't tell it. */
static void add_packet(FIXTURE_DATA(vhost) * self, u16 op, u32 len, u8 val)
{
	struct virtio_vsock_hdr *hdr = (void *)page_hva(self->gmem.mem, TX_HEADER);
	struct vring_desc *desc = self->tx.vring.desc;

	*hdr = (struct virtio_vsock_hdr) {
		.src_cid = GUEST_CID,
		/* Another one for each test: connections aren't forgotten at once. */
		.src_port = getpid(),
		.dst_cid = VMADDR_CID_HOST,
		.dst_port = HOST_PORT,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.len = len,
		.buf_alloc = SZ_64K,
	};
	desc[0] = (struct vring_desc) {
		.addr = page_gpa(TX_HEADER),
		.len = sizeof(*hdr),
		.flags = len ? VRING_DESC_F_NEXT : 0,
		.next = 1,
	};
	desc[1] = (struct vring_desc) {
		.addr = page_gpa(TX_DATA),
		.len = len,
	};
	memset(page_hva(self->gmem.mem, TX_DATA), val, len);
	add_avail(&self->tx, 0);
}

static void check_nothing_sent(FIXTURE_DATA(vhost) * self)
{
	u8 buf[2 * DATA_SIZE];

	TEST_ASSERT_EQ(recv(self->sock, buf, sizeof(buf), MSG_DONTWAIT), -1);
	TEST_ASSERT_EQ(errno, EAGAIN);
}

/* The driver is told, and so is the one at the other end, of this data only. */
static void check_sent(FIXTURE_DATA(vhost) * self, u8 val)
{
	u8 buf[2 * DATA_SIZE];
	int i;

	TEST_ASSERT_EQ(get_used(&self->tx).id, 0);
	wait_for(self->sock, "data");
	TEST_ASSERT_EQ(recv(self->sock, buf, sizeof(buf), MSG_DONTWAIT), DATA_SIZE);
	for (i = 0; i < DATA_SIZE; i++)
		TEST_ASSERT_EQ(buf[i], val);
	check_nothing_sent(self);
}

static void send_data(FIXTURE_DATA(vhost) * self, u8 val)
{
	u8 buf[DATA_SIZE];

	memset(buf, val, sizeof(buf));
	TEST_ASSERT_EQ(send(self->sock, buf, sizeof(buf), 0), sizeof(buf));
}

static void check_received(FIXTURE_DATA(vhost) * self, u8 val)
{
	struct virtio_vsock_hdr *hdr = receive(self);
	int i;

	TEST_ASSERT_EQ(hdr->op, VIRTIO_VSOCK_OP_RW);
	TEST_ASSERT_EQ(hdr->len, DATA_SIZE);
	for (i = 0; i < DATA_SIZE; i++)
		TEST_ASSERT_EQ(((u8 *)(hdr + 1))[i], val);
}

FIXTURE_SETUP(vhost)
{
	const u64 features = BIT_ULL(VIRTIO_F_VERSION_1), cid = GUEST_CID;
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = HOST_PORT,
	};
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region region;
	} table = {
		.memory.nregions = 1,
	};
	int i, running = 1;

	self->vhost = open(VHOST_PATH, O_RDWR);
	if (self->vhost < 0)
		SKIP(return, "Needs CONFIG_VHOST_VSOCK and root");

	gmem_vm_create(&self->gmem, GMEM_FLAGS);
	table.region = (struct vhost_memory_region) {
		.guest_phys_addr = GMEM_GPA,
		.memory_size = GMEM_SIZE,
		.userspace_addr = (u64)self->gmem.mem,
	};

	vhost_ioctl(self->vhost, VHOST_SET_OWNER, NULL);
	vhost_ioctl(self->vhost, VHOST_SET_FEATURES, &features);
	vhost_ioctl(self->vhost, VHOST_SET_MEM_TABLE, &table);
	setup_queue(self, &self->rx, 0, RX_RING);
	setup_queue(self, &self->tx, 1, TX_RING);
	for (i = 0; i < NR_RX_BUFFERS; i++)
		add_rx_buffer(self, i);
	vhost_ioctl(self->vhost, VHOST_VSOCK_SET_GUEST_CID, &cid);
	vhost_ioctl(self->vhost, VHOST_VSOCK_SET_RUNNING, &running);

	/* Have the guest connect to the host. */
	self->listener = socket(AF_VSOCK, SOCK_STREAM, 0);
	ASSERT_LE(0, self->listener);
	ASSERT_EQ(0, bind(self->listener, (struct sockaddr *)&addr, sizeof(addr)));
	ASSERT_EQ(0, listen(self->listener, 1));
	add_packet(self, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	kick(&self->tx);
	get_used(&self->tx);
	wait_for(self->listener, "a connection");
	self->sock = accept(self->listener, NULL, NULL);
	ASSERT_LE(0, self->sock);
	ASSERT_EQ(VIRTIO_VSOCK_OP_RESPONSE, receive(self)->op);
	kick(&self->rx);
}

FIXTURE_TEARDOWN(vhost)
{
	if (self->vhost < 0)
		return;

	kvm_close(self->sock);
	kvm_close(self->listener);
	kvm_close(self->vhost);
	free_queue(&self->rx);
	free_queue(&self->tx);
	gmem_vm_free(&self->gmem);
}

/* What a page holds, that nobody may change while it's private. */
static u64 guest_sum(FIXTURE_DATA(vhost) * self, int page)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++)
		sum = sum * 31 + guest_read(self->gmem.vcpu, page_gpa(page) + i * sizeof(u64));

	return sum;
}

/* C9: A ring that is private isn't read nor written, and works again once it's shared. */
TEST_F(vhost, tx_ring)
{
	u64 sum;
	int i;

	add_packet(self, VIRTIO_VSOCK_OP_RW, DATA_SIZE, 1);
	kick(&self->tx);
	check_sent(self, 1);
	ASSERT_FALSE(has_event(self->tx.err));

	for (i = 2; i < 4; i++) {
		/* There's something to send, if it could be found. */
		add_packet(self, VIRTIO_VSOCK_OP_RW, DATA_SIZE, i);
		to_private(self->gmem.fd, TX_RING, 1);
		sum = guest_sum(self, TX_RING);
		kick(&self->tx);
		wait_for_event(self->tx.err, "an error of the TX ring");
		check_nothing_sent(self);
		ASSERT_EQ(sum, guest_sum(self, TX_RING));

		to_shared(self->gmem.fd, TX_RING, 1);
		ASSERT_EQ(self->tx.last_used, self->tx.vring.used->idx);
		kick(&self->tx);
		check_sent(self, i);

		add_packet(self, VIRTIO_VSOCK_OP_RW, DATA_SIZE, 10 + i);
		kick(&self->tx);
		check_sent(self, 10 + i);
	}
}

/* C9: Data that is private isn't sent, not even in part, and neither is its header. */
TEST_F(vhost, tx_data)
{
	static const int private_pages[] = { TX_DATA, TX_HEADER };
	int i;

	for (i = 0; i < ARRAY_SIZE(private_pages); i++) {
		add_packet(self, VIRTIO_VSOCK_OP_RW, DATA_SIZE, 1);
		to_private(self->gmem.fd, private_pages[i], 1);
		kick(&self->tx);
		wait_for_event(self->tx.err, "an error of TX data");
		check_nothing_sent(self);

		/* The packet is lost, the next one isn't. */
		to_shared(self->gmem.fd, private_pages[i], 1);
		ASSERT_EQ(self->tx.last_used, self->tx.vring.used->idx);
		add_packet(self, VIRTIO_VSOCK_OP_RW, DATA_SIZE, 2);
		kick(&self->tx);
		check_sent(self, 2);
	}
}

/* C9: Same for a ring that the device has to find room for data in. */
TEST_F(vhost, rx_ring)
{
	u64 sum;
	int i;

	send_data(self, 1);
	check_received(self, 1);
	ASSERT_FALSE(has_event(self->rx.err));

	for (i = 2; i < 4; i++) {
		to_private(self->gmem.fd, RX_RING, 1);
		sum = guest_sum(self, RX_RING);
		send_data(self, i);
		wait_for_event(self->rx.err, "an error of the RX ring");
		ASSERT_EQ(sum, guest_sum(self, RX_RING));

		to_shared(self->gmem.fd, RX_RING, 1);
		ASSERT_EQ(self->rx.last_used, self->rx.vring.used->idx);
		kick(&self->rx);
		check_received(self, i);

		send_data(self, 10 + i);
		check_received(self, 10 + i);
	}
}

/* C9: Private memory isn't where data is received. */
TEST_F(vhost, rx_buffers)
{
	int i;

	host_fill(self->gmem.mem, RX_BUFFERS, NR_RX_BUFFERS, 1);
	to_private(self->gmem.fd, RX_BUFFERS, NR_RX_BUFFERS);
	send_data(self, 1);
	wait_for_event(self->rx.err, "an error of RX buffers");
	guest_check(self->gmem.vcpu, RX_BUFFERS, NR_RX_BUFFERS, 1);

	/* The packet is lost, and so is the buffer that it should have been in. */
	to_shared(self->gmem.fd, RX_BUFFERS, NR_RX_BUFFERS);
	host_check(self->gmem.mem, RX_BUFFERS, NR_RX_BUFFERS, 1);
	ASSERT_EQ(self->rx.last_used, self->rx.vring.used->idx);
	for (i = 2; i < 4; i++) {
		send_data(self, i);
		check_received(self, i);
	}
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
