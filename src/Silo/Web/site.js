// Keeps the page as the server has it: asks for it again when told that something changed, and puts in the parts that are others. Without it every page works as it was loaded.
(function () {
  'use strict';

  function slides() {
    document.querySelectorAll('.slide[hidden]').forEach(function (slide) {
      var pair = slide.previousElementSibling, input = slide.querySelector('input'), after = pair.lastElementChild;
      function cut() { after.style.clipPath = 'inset(0 0 0 ' + (100 - input.value) + '%)'; }
      pair.classList.add('over');
      slide.hidden = false;
      input.addEventListener('input', cut);
      cut();
    });
  }

  var shown = {}, loading = false, again = false;
  function parts(root) { return root.querySelectorAll('[data-part]'); }
  parts(document).forEach(function (part) { shown[part.id] = part.outerHTML; });
  slides();

  function mark(on, text) {
    var status = document.querySelector('.live');
    if (!status) return;
    status.className = 'live ' + (on ? 'on' : 'off');
    status.textContent = text;
  }

  function refresh() {
    if (loading) { again = true; return; }
    loading = true;
    fetch(location.href, { headers: { Accept: 'text/html' } }).then(function (answer) {
      if (!answer.ok) throw new Error(answer.status);
      return answer.text();
    }).then(function (text) {
      var news = new DOMParser().parseFromString(text, 'text/html');
      parts(news).forEach(function (part) {
        var here = document.getElementById(part.id);
        // What somebody is writing in stays.
        if (!here || shown[part.id] === part.outerHTML || (here.contains(document.activeElement) && /INPUT|SELECT/.test(document.activeElement.tagName))) return;
        shown[part.id] = part.outerHTML;
        var focused = here.contains(document.activeElement) && document.activeElement.getAttribute('href');
        var open = Array.prototype.map.call(here.querySelectorAll('details'), function (d) { return d.open; });
        here.replaceWith(document.adoptNode(part));
        part.querySelectorAll('details').forEach(function (d, i) { if (i < open.length) d.open = open[i]; });
        if (focused) {
          var link = part.querySelector('a[href="' + CSS.escape(focused) + '"]');
          if (link) link.focus();
        }
      });
      slides();
    }).catch(function () {
      mark(false, 'the silo does not answer');
    }).finally(function () {
      loading = false;
      if (again) { again = false; refresh(); }
    });
  }

  var address = document.body.dataset.live;
  if (!address || !window.EventSource) return;
  var source = new EventSource(address), lost = false;
  source.onopen = function () {
    mark(true, 'live');
    if (lost) refresh();
    lost = false;
  };
  source.addEventListener('changed', refresh);
  source.addEventListener('ended', function () { refresh(); source.close(); mark(false, 'ended'); });
  source.onerror = function () { lost = true; mark(false, 'connecting again'); };
})();
