import sys
sys.path.insert(0, "/work/main/tests")
from pipeline.conftest import *  # noqa
from burnish.pipeline import Project
import time
def test_try(tiny_project):
    t=time.time()
    p = Project(tiny_project)
    out = p.run()
    print("TIME", time.time()-t)
    from burnish.pipeline.summary import summary
    print("\n".join(summary(p, out)))
    from burnish import registry
    print(registry.card(p.store, out.records["candidate"]))
    again = p.run()
    print("AGAIN", again.state, time.time()-t, [ (k, r.id == out.records[k].id) for k, r in again.records.items() if k in out.records])
