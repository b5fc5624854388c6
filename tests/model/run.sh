#!/bin/sh
# Searches every run of the handoff protocol and of parking: handoff.pml, return.pml and parking.pml with spin. Exit
# status 77: spin is not installed.
# Usage: run.sh [WHAT…]   (without: everything but `long`)
#   holds              the properties hold, in each of the configurations below
#   reach              the situations that the properties are about do occur
#   mutation.NAME      the search finds the broken rule, by the property that it breaks
#   long               larger configurations: some minutes, up to 3 GB
#   return.holds, return.reach, return.mutation.NAME
#                      the same for the way back
#   parking.holds, parking.reach, parking.mutation.NAME
#                      the same for parking and the successor
set -eu

models=$(cd "$(dirname "$0")" && pwd)
model=$models/handoff.pml
: "${FERRY_CC:=cc}"
if [ -z "${FERRY_WORK:-}" ]; then
	FERRY_WORK=$(mktemp -d)
	trap 'rm -rf "$FERRY_WORK"' EXIT
	trap 'exit 130' INT TERM
fi
memory=3500 # MiB
seconds=570

if ! command -v spin >/dev/null; then
	echo "SKIPPED: no spin"
	exit 77
fi

# verify NAME 'COMPILER OPTIONS' 'PAN OPTIONS' SPIN OPTIONS…: runs the search to its end or to the first error, and
# writes its output to $FERRY_WORK/NAME/out. Fails if the search stopped for another reason.
verify()
{
	name=$1
	compile=$2
	search=$3
	shift 3
	rm -rf "${FERRY_WORK:?}/$name"
	mkdir -p "$FERRY_WORK/$name" && cd "$FERRY_WORK/$name" || return 1
	if ! spin -a "$@" "$model" >spin.out 2>&1; then
		cat spin.out
		echo "$name: spin failed"
		return 1
	fi
	# shellcheck disable=SC2086 # words
	"$FERRY_CC" -w $compile "-DMEMLIM=$memory" -o pan pan.c || {
		echo "$name: pan.c could not be compiled"
		return 1
	}
	status=0
	# shellcheck disable=SC2086 # words
	timeout "$seconds" ./pan -m20000 $search >out 2>&1 || status=$?
	# A search that stopped at an error is not complete. Any other incomplete search is a failure.
	if [ "$status" -ne 0 ] || ! grep -q '^State-vector .*errors: [01]$' out ||
		grep -Eq 'max search depth too small|out of memory|MEMLIM bound|hash table full' out ||
		{ grep -q 'errors: 0$' out && grep -q 'Search not completed' out; }
	then
		cat out
		echo "$name: the search did not end (exit status $status)"
		return 1
	fi
}

# holds NAME 'COMPILER OPTIONS' 'PAN OPTIONS' SPIN OPTIONS…: no error in any run.
holds()
{
	verify "$@" || return 1
	if ! grep -q '^State-vector .*errors: 0$' out; then
		shift 3
		cat out
		spin -k "$(basename "$model").trail" -p -g "$@" "$model" | tail -n 200 || true
		echo "$name: a property does not hold; the steps to that state are above"
		return 1
	fi
	printf '%-10s' "$name"
	sed -n -e 's/^State-vector .*depth reached \([0-9]*\), errors: 0/depth \1/p' \
		-e 's/^ *\([0-9]* states\), stored.*/\1/p' -e 's/^ *\([0-9]* transitions\).*/\1/p' \
		-e 's/^ *\([0-9.]*\)[[:space:]]*total actual memory usage/\1 MB/p' out | paste -s -d ' '
}

# fails NAME ERROR 'COMPILER OPTIONS' 'PAN OPTIONS' SPIN OPTIONS…: the search ends with this error.
fails()
{
	name=$1
	error=$2
	shift 2
	verify "$name" "$@" || return 1
	if ! grep -q "^pan:1: $error" out; then
		cat out
		echo "$name: expected '$error'"
		return 1
	fi
	printf '%-24s' "$name"
	sed -n -e 's/^State-vector .*depth reached \([0-9]*\), errors: 1/found, depth \1/p' \
		-e 's/^ *\([0-9]* states\), stored.*/\1/p' out | paste -s -d ' '
}

safety='-O2 -DSAFETY'
cycles='-O2 -DNP -DNOFAIR'

all_hold()
{
	# Two workers, two handoffs, and the part that the name stands for. "ends": there is no cycle.
	holds three "$safety" -w23 -DHANDOFFS=3
	holds replaced "$safety" -w23 -DWORKERS=3 -DLOSSES=0
	holds noise "$safety" -w23 -DNOISE=1
	holds lies "$safety" -w23 -DNOISE=1 -DLIES=1 -DSTREAM=1 -DLOSSES=0 -DPROPERTY=BOOKS
	holds gone "$safety" -w23 -DGONE=1 -DSHORT_WRITES=1
	holds stream "$safety" -w23 -DSTREAM=1 -DSHORTAGE=1
	holds ends "$cycles" '-w22 -l' -DCYCLES=1 -DGONE=1
}

all_hold_long()
{
	memory=6000
	seconds=3600
	holds short3 "$safety" -w25 -DHANDOFFS=3 -DSHORT_WRITES=1
	holds replaced1 "$safety" -w25 -DWORKERS=3
	holds noise2 "$safety" -w25 -DNOISE=2
	holds lies1 "$safety" -w25 -DNOISE=1 -DLIES=1 -DSTREAM=1 -DPROPERTY=BOOKS
	holds shortage "$safety" -w25 -DSHORTAGE=1 -DSHORT_WRITES=1
	holds roomy "$safety" -w25 -DHANDOFFS=3 -DCREDITS=3 -DROOM_DOWN=2 -DROOM_UP=2
	model=$models/return.pml
	holds return2 "$safety" -w24 -DCONNECTIONS=2 -DHANDOFFS=2
	model=$models/parking.pml
	holds generations "$safety" -w24 -DCONNECTIONS=2 -DPROXIES=3 -DFAILURES=1 -DDEATHS=1 -DINPUTS=1
	model=$models/handoff.pml
}

reaches()
{
	situation=$1
	shift
	fails "$situation" 'assertion violated' '-O0 -DSAFETY' -w22 -DPROPERTY=NONE "-DREACH=$situation" "$@"
}

all_reached()
{
	for situation in CLAIM_READ ALL_DONE SERVED_BY_THIRD ATTEMPTS_SPENT DEADLINE_PASSED \
		QUEUE_WITHOUT_WORKER DEATH_BEFORE_CALLBACK DEATH_AFTER_CALLBACK LATE_CLAIM LATE_FINISH \
		CLAIM_REFUSED WOKEN_TOO_LATE NO_ROOM_UP NO_ROOM_DOWN LOST_THEN_SERVED REFUSED_BY_USER \
		REFUSED_BY_LIBRARY LEFT_WITH_CLAIM UNCHARGED_AGAIN
	do
		reaches "$situation"
	done
	reaches SERVED_ELSEWHERE -DLOSSES=0
	reaches HALF_A_CLAIM_DRAINED -DSHORT_WRITES=1
	for situation in LOST_TWICE FOREIGN_ANSWER UNKNOWN_ANSWER; do
		reaches "$situation" -DNOISE=1
	done
	for situation in SHORT_ELSEWHERE SHORT_AGAIN; do
		reaches "$situation" -DSHORTAGE=1
	done
	reaches CUT_OFF -DSTREAM=1
	reaches EARLY_ANSWERED -DSTREAM=1 -DNOISE=1 -DLIES=1
	for situation in GONE_UNCLAIMED GONE_CLAIMED; do
		reaches "$situation" -DGONE=1
	done
}

# breaks NAME PROPERTY SPIN OPTIONS…
breaks()
{
	property=$2
	rule=$1
	shift 2
	fails "$rule" 'assertion violated' '-O0 -DSAFETY' -w22 "-DPROPERTY=$property" "$@"
	echo "which breaks $property"
}

mutation()
{
	case $1 in
	claim_on_receipt) breaks "$1" SERVED -DCLAIM_ON_RECEIPT=1 ;;
	callback_first) breaks "$1" ONCE -DCALLBACK_FIRST=1 ;;
	half_a_claim) breaks "$1" ONCE -DHALF_A_CLAIM=1 -DSHORT_WRITES=1 ;;
	no_fence) breaks "$1" ONCE -DNO_FENCE=1 ;;
	no_drain) breaks "$1" ONCE -DNO_DRAIN=1 ;;
	one_id) breaks "$1" ONCE -DONE_ID=1 -DNOISE=1 ;;
	any_channel) breaks "$1" ONE_OUTCOME -DANY_CHANNEL=1 -DNOISE=1 ;;
	copy_kept) breaks "$1" COPIES -DCOPY_KEPT=1 ;;
	credit_lost) breaks "$1" CREDITS_WHOLE -DCREDIT_LOST=1 ;;
	not_retried) breaks "$1" SERVED -DNOT_RETRIED=1 ;;
	charge_nobody) breaks "$1" TRIES -DCHARGE_NOBODY=1 -DLOSSES=2 ;;
	charge_all) breaks "$1" TRIES -DCHARGE_ALL=1 ;;
	short_for_ever) breaks "$1" SERVED -DSHORT_FOR_EVER=1 -DSHORTAGE=1 ;;
	early_answer) breaks "$1" COPIES -DEARLY_ANSWER=1 -DSTREAM=1 -DNOISE=1 -DLIES=1 ;;
	gone_unheard) breaks "$1" NOTHING_HELD -DGONE_UNHEARD=1 -DGONE=1 ;;
	not_counted) fails "$1" 'non-progress cycle' '-O0 -DNP -DNOFAIR' '-w22 -l' -DCYCLES=1 -DNOT_COUNTED=1 ;;
	*)
		echo "$0: no mutation '$1'" >&2
		exit 2
		;;
	esac
}

# ---- the way back ----

return_holds()
{
	# One connection that is handed off three times, or two that are handed off once.
	holds return "$safety" -w22
	holds noisy "$safety" -w22 -DNOISE=1 -DLOSSES=1 -DGONE=1
	holds two "$safety" -w22 -DCONNECTIONS=2 -DHANDOFFS=1
}

return_reached()
{
	for situation in SERVED_AGAIN SAME_WORKER_AGAIN RETURN_DRAINED DEAD_AFTER_RETURN HALF_FENCED \
		RETURN_REFUSED SERVED_ON RETURN_FOR_RECALL IDLE_AFTER_RECALL SERVED_OVER_OLD NO_ROOM
	do
		reaches "$situation"
	done
	for situation in STALE_RETURN SECOND_RETURN OTHER_DESCRIPTOR; do
		reaches "$situation" -DNOISE=1
	done
	reaches LOST_DESCRIPTOR -DLOSSES=1
	reaches GONE_HALFWAY -DGONE=1
}

return_mutation()
{
	case $1 in
	close_early) breaks "$1" LOST -DCLOSE_EARLY=1 ;;
	half_commits) breaks "$1" LOST -DHALF_COMMITS=1 ;;
	half_counts) breaks "$1" ONCE -DHALF_COUNTS=1 ;;
	half_unclosed) breaks "$1" COPIES -DHALF_UNCLOSED=1 ;;
	no_drain) breaks "$1" LOST -DNO_DRAIN=1 ;;
	no_fence) breaks "$1" LOST -DNO_FENCE=1 ;;
	dropped) breaks "$1" LOST -DDROPPED=1 ;;
	served_after) breaks "$1" ONCE -DSERVED_AFTER=1 ;;
	copy_kept) breaks "$1" COPIES -DCOPY_KEPT=1 ;;
	stale_counts) breaks "$1" ONCE -DSTALE_COUNTS=1 -DNOISE=1 ;;
	twice_counts) breaks "$1" ONE_OUTCOME -DTWICE_COUNTS=1 -DNOISE=1 ;;
	stale_unclosed) breaks "$1" COPIES -DSTALE_UNCLOSED=1 -DNOISE=1 ;;
	any_descriptor) breaks "$1" SAME -DANY_DESCRIPTOR=1 -DNOISE=1 ;;
	taken_without) breaks "$1" COPIES -DTAKEN_WITHOUT=1 -DLOSSES=1 ;;
	old_peer) breaks "$1" LOST -DOLD_PEER=1 ;;
	credit_lost) breaks "$1" BOOKS -DCREDIT_LOST=1 ;;
	recall_of_idle) breaks "$1" RECALLED -DRECALL_OF_IDLE=1 ;;
	*)
		echo "$0: no mutation 'return.$1'" >&2
		exit 2
		;;
	esac
}

# return_part holds | reach | mutation.NAME
return_part()
{
	model=$models/return.pml
	case $1 in
	holds) return_holds ;;
	reach) return_reached ;;
	mutation.*) return_mutation "${1#mutation.}" ;;
	*)
		echo "$0: 'return.$1' is not one of return.holds, return.reach, return.mutation.NAME" >&2
		exit 2
		;;
	esac
	model=$models/handoff.pml
}

# ---- parking and the successor ----

parking_holds()
{
	# "rests": there is no cycle. -O1: the compiler takes longer than the search.
	holds upgrade '-O1 -DSAFETY' -w22 -DCONNECTIONS=2 -DFAILURES=1 -DDEATHS=1
	holds chain '-O1 -DSAFETY' -w22 -DCONNECTIONS=2 -DPROXIES=3 -DINPUTS=1
	holds single '-O1 -DSAFETY' -w22 -DPROXIES=3 -DFAILURES=1 -DDEATHS=1
	holds rests '-O1 -DNP -DNOFAIR' '-w22 -l' -DCONNECTIONS=2 -DFAILURES=1 -DDEATHS=1 -DINPUTS=1
}

parking_reached()
{
	for situation in PENDING_GIVEN INPUT_IN_FLIGHT END_IN_FLIGHT BYTES_IN_FLIGHT RETURNED_OVER RETURNED_UNHEARD \
		SERVED_BY_BOTH
	do
		reaches "$situation"
	done
	for situation in WAITED WAITED_OVER MADE_ROOM; do
		reaches "$situation" -DCONNECTIONS=2
	done
	for situation in UNCLAIMED OUTLIVED; do
		reaches "$situation" -DDEATHS=1
	done
	for situation in FORWARDED TWO_PREDECESSORS; do
		reaches "$situation" -DPROXIES=3
	done
	reaches GIVEN_BACK -DFAILURES=1
}

parking_mutation()
{
	case $1 in
	armed_in_flight) breaks "$1" ONCE -DARMED_IN_FLIGHT=1 ;;
	given_twice) breaks "$1" ONCE -DGIVEN_TWICE=1 ;;
	armed_while_waiting) breaks "$1" QUIET -DARMED_WHILE_WAITING=1 -DCONNECTIONS=2 ;;
	pending_left) breaks "$1" KEPT -DPENDING_LEFT=1 ;;
	ends_early) breaks "$1" KEPT -DENDS_EARLY=1 ;;
	predecessor_forgotten) breaks "$1" KEPT -DPREDECESSOR_FORGOTTEN=1 -DPROXIES=3 ;;
	returned_parked) breaks "$1" KEPT -DRETURNED_PARKED=1 ;;
	given_parked) breaks "$1" KEPT -DGIVEN_PARKED=1 -DPROXIES=3 ;;
	failed_at_once) breaks "$1" KEPT -DFAILED_AT_ONCE=1 -DFAILURES=1 ;;
	end_first) breaks "$1" KEPT -DEND_FIRST=1 ;;
	before_commit) breaks "$1" SERVED -DBEFORE_COMMIT=1 -DFAILURES=1 ;;
	dismissed_early) breaks "$1" SERVED -DDISMISSED_EARLY=1 -DCONNECTIONS=2 ;;
	kept_in_shortage) breaks "$1" SERVED -DKEPT_IN_SHORTAGE=1 -DCONNECTIONS=2 ;;
	bytes_asleep) breaks "$1" SERVED -DBYTES_ASLEEP=1 ;;
	bytes_dropped) breaks "$1" INPUT -DBYTES_DROPPED=1 ;;
	bytes_twice) breaks "$1" INPUT -DBYTES_TWICE=1 ;;
	no_recall) breaks "$1" ENDS -DNO_RECALL=1 ;;
	*)
		echo "$0: no mutation 'parking.$1'" >&2
		exit 2
		;;
	esac
}

# parking_part holds | reach | mutation.NAME
parking_part()
{
	model=$models/parking.pml
	case $1 in
	holds) parking_holds ;;
	reach) parking_reached ;;
	mutation.*) parking_mutation "${1#mutation.}" ;;
	*)
		echo "$0: 'parking.$1' is not one of parking.holds, parking.reach, parking.mutation.NAME" >&2
		exit 2
		;;
	esac
	model=$models/handoff.pml
}

if [ $# -eq 0 ]; then
	set -- holds reach
	for name in claim_on_receipt callback_first half_a_claim no_fence no_drain one_id any_channel copy_kept \
		credit_lost not_retried gone_unheard not_counted charge_nobody charge_all short_for_ever early_answer
	do
		set -- "$@" "mutation.$name"
	done
	set -- "$@" return.holds return.reach
	for name in close_early half_commits half_counts half_unclosed no_drain no_fence dropped served_after copy_kept \
		stale_counts twice_counts stale_unclosed any_descriptor taken_without old_peer credit_lost recall_of_idle
	do
		set -- "$@" "return.mutation.$name"
	done
	set -- "$@" parking.holds parking.reach
	for name in armed_in_flight given_twice armed_while_waiting pending_left ends_early predecessor_forgotten \
		returned_parked given_parked failed_at_once end_first before_commit dismissed_early kept_in_shortage \
		bytes_asleep bytes_dropped bytes_twice no_recall
	do
		set -- "$@" "parking.mutation.$name"
	done
fi
for what in "$@"; do
	case $what in
	holds) all_hold ;;
	long) all_hold_long ;;
	reach) all_reached ;;
	mutation.*) mutation "${what#mutation.}" ;;
	return.*) return_part "${what#return.}" ;;
	parking.*) parking_part "${what#parking.}" ;;
	*)
		echo "$0: '$what' is not one of holds, long, reach, mutation.NAME, return.…, parking.…" >&2
		exit 2
		;;
	esac
done
