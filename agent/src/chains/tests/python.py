"""A program that stops in the middle of a task: how its tasks wait for each other (an argument) -> the numbers it expects."""
import asyncio, collections.abc, os, sys, threading

def stop(*chain):
    "Says which thread works, and the numbers of the tasks that are expected, and waits."
    print(threading.get_ident(), *chain, flush=True)
    os.read(0, 1)

def number(task):
    name = task.get_name()
    return int(name[5:]) if name.startswith("Task-") else 0

async def here(*others):
    stop(number(asyncio.current_task()), *map(number, others))

async def deep(levels, *others):
    if levels:
        return await deep(levels - 1, *others)
    (lambda: stop(number(asyncio.current_task()), *map(number, others)))()

async def middle(how):
    me, root = asyncio.current_task(), ROOT
    await how(me, root)

async def task(me, root): await asyncio.create_task(here(me, root))
async def gather(me, root): await asyncio.gather(asyncio.sleep(0), here(me, root), asyncio.sleep(9))
async def shield(me, root): await asyncio.shield(here(me, root))
async def wait_for(me, root): await asyncio.wait_for(limited(me, root), 60)
async def limited(me, root):
    # From 3.12 on, the one that waits does the work itself.
    if asyncio.current_task() is me: await here(root)
    else: await here(me, root)
async def wait(me, root): await asyncio.wait([asyncio.create_task(here(me, root)), asyncio.create_task(asyncio.sleep(60))])
async def group(me, root):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here(me, root))
        await asyncio.sleep(60)
async def future(me, root):
    async def work(answer):
        await here(me, root)
        answer(1)
    done = asyncio.get_running_loop().create_future()
    KEPT.add(asyncio.create_task(work(done.set_result)))
    await done
async def callbacks(me, root):
    work = asyncio.create_task(here(me, root))
    KEPT.add(work)
    work.add_done_callback(KEPT.discard)
    work.add_done_callback(print)
    await work
async def detached(me, root):
    KEPT.add(asyncio.create_task(here()))
    await asyncio.sleep(60)
async def several(me, root):
    async def late():
        await asyncio.sleep(0.05)
        await here()
    work = asyncio.create_task(late())
    async def other(): await work
    KEPT.add(asyncio.create_task(other()))
    await work
async def named(me, root):
    await asyncio.create_task(here(me, root), name="a name")
async def nested(me, root): await asyncio.create_task(deep(20, me, root))
async def callback(me, root):
    asyncio.get_running_loop().call_soon(stop)
    await asyncio.sleep(60)
async def thread(me, root): await asyncio.to_thread(stop)
async def holds(me, root):
    # `held` is a local of a task that has nothing to do with who waits for it.
    async def work(held): await here()
    held = asyncio.create_task(asyncio.sleep(60))
    KEPT.add(asyncio.create_task(work(held)))
    await held

class Other(collections.abc.Coroutine):
    "A coroutine that has no frame of its own, as those of Cython."
    def __init__(self, inner): self.inner = inner
    def send(self, value): return self.inner.send(value)
    def throw(self, *error): return self.inner.throw(*error)
    def close(self): return self.inner.close()
    def __await__(self): return self.inner.__await__()
async def frameless(me, root):
    async def work(): await asyncio.create_task(here(asyncio.current_task()))
    KEPT.add(asyncio.create_task(Other(work())))
    await asyncio.sleep(60)

async def main():
    global ROOT
    ROOT = asyncio.current_task()
    await asyncio.create_task(middle(globals()[sys.argv[1]]))

KEPT = set()
if sys.argv[1] == "plain":
    for name in [name for name in sys.modules if "asyncio" in name]: del sys.modules[name]
    stop()
else:
    asyncio.run(main())
