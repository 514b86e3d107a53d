/* Inside sim_node: the small executor: batches, proposals, reads, the state machine's vtable. */
#ifndef LOCKSTEP_SIM_EXECUTOR_H
#define LOCKSTEP_SIM_EXECUTOR_H

#include "tests/sim/sim_node.h"

/* Put the node's state machine and callbacks into a replica configuration. */
void sim_executor_config(struct sim_node *node, struct replica_config *config);
void sim_executor_start(struct sim_node *node);
/* The replica is closed: whatever is left has an unknown outcome. */
void sim_executor_stop(struct sim_node *node);
void sim_executor_request(struct sim_node *node, struct sim_request *request);
/* End of a loop turn, before replica_turn_end. */
void sim_executor_turn(struct sim_node *node);

/* sim_node.c: role, term or leader changed. */
void sim_node_changed(struct sim_node *node);

#endif
