/*
 * virtual(8): delivery to mailboxes of users that this host does not know, below virtual_mailbox_base.
 *
 * Who has a mailbox, where it is and whose it is stands in virtual_mailbox_maps, virtual_uid_maps and
 * virtual_gid_maps; no aliases, no .forward, no commands. As root each mailbox is written with its owner's
 * identity, never one below 100; as an ordinary user everything belongs to that user and the two id maps may
 * be unset.
 */
#ifndef DELIVER_VIRTUAL_VIRTUAL_AGENT_H
#define DELIVER_VIRTUAL_VIRTUAL_AGENT_H

#include "deliver_agent.h"

extern const struct deliver_agent_ops virtual_agent_ops;

#endif
